package incus

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// get reads a path of the API into out, under the read deadline. The library decodes an answer three times and writes
// it out once more for a log that nobody reads, which a list of a hundred instances feels.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.ReadTimeout)
	defer cancel()
	return c.judge(ctx, c.fetch(ctx, path, query, out), false)
}

func (c *Client) fetch(ctx context.Context, path string, query url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://custom.socket"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "ic-agent")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer := struct {
		Type     api.ResponseType `json:"type"`
		Error    string           `json:"error"`
		Metadata any              `json:"metadata"`
	}{Metadata: out}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if err != nil {
		return err
	}
	if answer.Type == api.ErrorResponse || resp.StatusCode != http.StatusOK {
		return api.StatusErrorf(resp.StatusCode, "%s", answer.Error)
	}
	return nil
}

// list reads all objects of a kind in a project ("" for all projects) with one request.
func (c *Client) list(ctx context.Context, path, project string, out any) error {
	query := url.Values{"recursion": {"1"}}
	if project == "" {
		query.Set("all-projects", "true")
	} else {
		query.Set("project", project)
	}
	return c.get(ctx, path, query, out)
}

// The parts of Incus's objects that matter here, as its API spells them.
type (
	serverAnswer struct {
		Auth          string   `json:"auth"`
		APIExtensions []string `json:"api_extensions"`
		Environment   struct {
			ServerVersion string `json:"server_version"`
		} `json:"environment"`
	}
	projectAnswer struct {
		Name        string            `json:"name"`
		Config      map[string]string `json:"config"`
		Description string            `json:"description"`
		UsedBy      []string          `json:"used_by"`
	}
	networkAnswer struct {
		Name        string            `json:"name"`
		Type        string            `json:"type"`
		Managed     bool              `json:"managed"`
		Config      map[string]string `json:"config"`
		Description string            `json:"description"`
		UsedBy      []string          `json:"used_by"`
	}
	volumeAnswer struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
		UsedBy []string          `json:"used_by"`
	}
	imageAnswer struct {
		Fingerprint string            `json:"fingerprint"`
		Cached      bool              `json:"cached"`
		Properties  map[string]string `json:"properties"`
		Size        int64             `json:"size"`
		UploadedAt  time.Time         `json:"uploaded_at"`
		LastUsedAt  time.Time         `json:"last_used_at"`
	}
	instanceAnswer struct {
		Project    string                 `json:"project"`
		Name       string                 `json:"name"`
		Status     plan.Status            `json:"status"`
		Type       string                 `json:"type"`
		Config     map[string]string      `json:"config"`
		Devices    map[string]plan.Device `json:"devices"`
		CreatedAt  time.Time              `json:"created_at"`
		LastUsedAt time.Time              `json:"last_used_at"`
	}
	// expandedAnswer is an instance with what its profiles add.
	expandedAnswer struct {
		instanceAnswer

		ExpandedConfig  map[string]string      `json:"expanded_config"`
		ExpandedDevices map[string]plan.Device `json:"expanded_devices"`
	}
)

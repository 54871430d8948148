package incus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// get reads an object into out, under the read deadline. The library decodes an answer three times and writes it out
// once more for a log that nobody reads, which a list of a hundred instances feels.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.fetch(ctx, path, query, func(d *json.Decoder) error { return d.Decode(out) })
}

// objects reads all of a kind in a project ("" for all projects) with one request.
func objects[T any](ctx context.Context, c *Client, path, project string) (all []T, err error) {
	err = c.fetch(ctx, path, allOf(project), func(d *json.Decoder) error {
		return each(d, func(one T) { all = append(all, one) })
	})
	return all, err
}

// allOf asks for whole objects of a project, "" for all projects.
func allOf(project string) url.Values {
	query := url.Values{"recursion": {"1"}}
	if project == "" {
		query.Set("all-projects", "true")
	} else {
		query.Set("project", project)
	}
	return query
}

// each reads a list, one after the other: what is not kept of them takes no memory.
func each[T any](d *json.Decoder, take func(T)) error {
	begin, err := d.Token()
	if err != nil || begin == nil {
		return err
	}
	if begin != json.Delim('[') {
		return errGarbled
	}
	for d.More() {
		var one T
		err = d.Decode(&one)
		if err != nil {
			return err
		}
		take(one)
	}
	_, err = d.Token() // ]
	return err
}

// fetch reads an answer; metadata takes what was asked for.
func (c *Client) fetch(ctx context.Context, path string, query url.Values, metadata func(*json.Decoder) error) error {
	return c.exchange(ctx, path, query, func(body io.Reader) (string, error) {
		return answer(json.NewDecoder(body), metadata)
	})
}

// exchange asks; read takes the answer's body and says what Incus refused with.
func (c *Client) exchange(ctx context.Context, path string, query url.Values, read func(body io.Reader) (refusal string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.ReadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://custom.socket"+path+"?"+query.Encode(), nil)
	if err != nil {
		return c.judge(ctx, err, false)
	}
	req.Header.Set("User-Agent", "ic-agent")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.judge(ctx, err, false)
	}
	defer func() { _ = resp.Body.Close() }()
	refusal, err := read(resp.Body)
	if err == nil && (refusal != "" || resp.StatusCode != http.StatusOK) {
		err = api.StatusErrorf(resp.StatusCode, "%s", refusal)
	}
	return c.judge(ctx, err, false)
}

// answer reads what Incus puts around everything it says: what it refuses with, or the metadata.
func answer(d *json.Decoder, metadata func(*json.Decoder) error) (refusal string, err error) {
	begin, err := d.Token()
	if err == nil && begin != json.Delim('{') {
		return "", errGarbled
	}
	told := false
	for err == nil && d.More() {
		var key json.Token
		key, err = d.Token()
		switch {
		case err != nil:
		case key == "error":
			err = d.Decode(&refusal)
			told = told || refusal != ""
		case key == "metadata" && refusal == "":
			err = metadata(d)
			told = true
		default:
			err = d.Decode(new(json.RawMessage))
		}
	}
	if err == nil {
		_, err = d.Token() // }
	}
	if err == nil && !told {
		err = errGarbled
	}
	return refusal, err
}

// errGarbled is an answer that is JSON, and none of Incus's.
var errGarbled = fmt.Errorf("the answer is not Incus's: %w", io.ErrUnexpectedEOF)

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
		Status      string            `json:"status"`
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

package incus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// attrs are the owner and the permission bits of a file.
type attrs struct {
	uid, gid int64
	mode     uint32
}

// pushFile writes a file. Incus sets owner and mode only on a file it makes, so one with others is removed
// first. The library's calls for files know no context; these do.
func (c *Client) pushFile(ctx context.Context, project string, op plan.PushFile) error {
	target := path.Clean(op.File.Target)
	if !path.IsAbs(target) || target == "/" {
		return kinded{fmt.Errorf("%q is not an absolute path of a file", op.File.Target), []error{ErrRefused}}
	}
	if op.File.Directory {
		return patiently(ctx, func() error { return c.makeParents(ctx, project, op.Instance, target) })
	}
	want := attrs{max(op.File.UID, 0), max(op.File.GID, 0), op.File.Mode}
	if want.mode == 0 {
		want.mode = 0o444
	}
	return patiently(ctx, func() error {
		have, err := c.fileAttrs(ctx, project, op.Instance, target)
		if err == nil && have != want {
			err = c.file(ctx, http.MethodDelete, project, op.Instance, target, nil, nil)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		post := func() error {
			return c.file(ctx, http.MethodPost, project, op.Instance, target, want.header("file"), op.File.Content)
		}
		err = post()
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		err = c.makeParents(ctx, project, op.Instance, path.Dir(target))
		if err != nil {
			return err
		}
		return post()
	})
}

func (a attrs) header(kind string) http.Header {
	return http.Header{
		"X-Incus-Uid":   {fmt.Sprint(a.uid)},
		"X-Incus-Gid":   {fmt.Sprint(a.gid)},
		"X-Incus-Mode":  {fmt.Sprintf("%04o", a.mode)},
		"X-Incus-Type":  {kind},
		"X-Incus-Write": {"overwrite"},
	}
}

func (c *Client) fileAttrs(ctx context.Context, project, instance, target string) (attrs, error) {
	h, err := c.head(ctx, project, instance, target)
	if err != nil {
		return attrs{}, err
	}
	if h.Get("X-Incus-Type") == "directory" {
		return attrs{}, kinded{fmt.Errorf("%s is a directory in the image", target), []error{ErrRefused}}
	}
	uid, gid, mode, _, _ := api.ParseFileHeaders(h)
	return attrs{uid, gid, uint32(mode)}, nil
}

// makeParents makes what is missing of a directory, from the deepest that exists down.
func (c *Client) makeParents(ctx context.Context, project, instance, dir string) error {
	var missing []string
	for ; dir != "/"; dir = path.Dir(dir) {
		_, err := c.head(ctx, project, instance, dir)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		missing = append([]string{dir}, missing...)
	}
	for _, d := range missing {
		err := c.file(ctx, http.MethodPost, project, instance, d, attrs{mode: 0o755}.header("directory"), nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// makeTargets makes what is missing, and leaves what is there.
func (c *Client) makeTargets(ctx context.Context, project string, op plan.MakeTargets) error {
	return patiently(ctx, func() error {
		for _, t := range op.Targets {
			_, err := c.head(ctx, project, op.Instance, t.Path)
			if errors.Is(err, ErrNotFound) {
				err = c.makeTarget(ctx, project, op.Instance, t)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.Path, err)
			}
		}
		return nil
	})
}

func (c *Client) makeTarget(ctx context.Context, project, instance string, t plan.Target) error {
	dir := t.Path
	if !t.Dir {
		dir = path.Dir(t.Path)
	}
	err := c.makeParents(ctx, project, instance, dir)
	if err != nil || t.Dir {
		return err
	}
	return c.file(ctx, http.MethodPost, project, instance, t.Path, attrs{mode: 0o444}.header("file"), nil)
}

// head asks for what is known of a path. A missing one and a missing instance are both ErrNotFound.
func (c *Client) head(ctx context.Context, project, instance, target string) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.MutateTimeout)
	defer cancel()
	resp, err := c.fileRequest(ctx, http.MethodHead, project, instance, target, nil, nil)
	if err == nil && resp.StatusCode != http.StatusOK { // no body tells why
		err = api.StatusErrorf(resp.StatusCode, "%s", strings.ToLower(http.StatusText(resp.StatusCode)))
	}
	if err != nil {
		return nil, c.judge(ctx, err, false)
	}
	return resp.Header, resp.Body.Close()
}

// file changes one file of an instance.
func (c *Client) file(ctx context.Context, method, project, instance, target string, header http.Header, content []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.MutateTimeout)
	defer cancel()
	resp, err := c.fileRequest(ctx, method, project, instance, target, header, content)
	if err != nil {
		return c.judge(ctx, err, true)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer api.Response
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if err == nil && (answer.Type == api.ErrorResponse || resp.StatusCode != http.StatusOK) {
		err = api.StatusErrorf(resp.StatusCode, "%s", answer.Error)
	}
	return c.judge(ctx, err, true)
}

func (c *Client) fileRequest(ctx context.Context, method, project, instance, target string, header http.Header, content []byte) (*http.Response, error) {
	v := url.Values{"project": {project}, "path": {target}}
	at := "http://custom.socket/1.0/instances/" + url.PathEscape(instance) + "/files?" + v.Encode()
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("User-Agent", "ic-agent")
	req.Header.Set("Content-Type", "application/octet-stream") // Incus would eat a form's content
	return c.http.Do(req)
}

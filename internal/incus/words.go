package incus

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxWords is how much of a console's log is returned, counted from its end.
const maxWords = 4 << 10

// LastWords reads the end of what the program of an instance wrote to its console.
func (c *Client) LastWords(ctx context.Context, project, name string) (string, error) {
	v := url.Values{"project": {project}}
	text, err := c.text(ctx, "/1.0/instances/"+url.PathEscape(name)+"/console?"+v.Encode())
	if err != nil {
		return "", fmt.Errorf("read the console of instance %s in project %s: %w", name, project, err)
	}
	return tail(strings.ReplaceAll(text, "\r\n", "\n")), nil
}

// tail is the end of a text, from the beginning of a line on.
func tail(text string) string {
	if len(text) <= maxWords {
		return text
	}
	text = text[len(text)-maxWords:]
	_, rest, found := strings.Cut(text, "\n")
	if found {
		return rest
	}
	return text
}

// text reads an answer that is no JSON.
func (c *Client) text(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.ReadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://custom.socket"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return "", c.judge(ctx, err, false)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", said(resp.Status, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxLog))
	if err != nil {
		return "", c.judge(ctx, err, false)
	}
	return string(b), nil
}

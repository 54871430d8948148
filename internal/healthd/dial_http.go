package healthd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

func (w way) http(ctx context.Context, at string, p health.Probe) (string, error) {
	scheme := "http"
	if p.TLS {
		scheme = "https"
	}

	target := scheme + "://" + at + "/" + strings.TrimPrefix(p.Path, "/")
	resp, err := w.request(ctx, at, target, p)
	for hop := 0; p.Follow && err == nil && resp.StatusCode >= 300 && resp.StatusCode <= 399 && hop < maxHops; hop++ {
		_ = resp.Body.Close()
		target, err = sameServer(target, p, resp.Header.Get("Location"))
		if err == nil {
			resp, err = w.request(ctx, at, target, p)
		}
	}

	if err != nil {
		return "", err
	}

	defer func() { _ = resp.Body.Close() }()
	if p.Body == "" { // it is read for the server's sake, which may have a stream without an end
		enough := time.AfterFunc(bodyPatience, func() { _ = resp.Body.Close() })
		defer enough.Stop()
	}

	text, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	switch {
	case p.Any:
	case p.Status != 0 && resp.StatusCode != p.Status:
		return "", fmt.Errorf("the status is %s, not %d", resp.Status, p.Status)
	case p.Status == 0 && (resp.StatusCode < 200 || resp.StatusCode > 399):
		return "", fmt.Errorf("the status is %s", resp.Status)
	}

	switch {
	case p.Body != "" && err != nil:
		return "", fmt.Errorf("read the answer: %w", err)
	case p.Body != "" && !strings.Contains(string(text), p.Body):
		return "", fmt.Errorf("the answer does not contain %q", p.Body)
	}

	return resp.Status, nil
}

// bodyPatience is how long an answer is read that nothing is looked for in.
const bodyPatience = time.Second

// maxHops is how many redirections are followed (busybox's wget follows as many).
const maxHops = 5

// request makes one request; a redirection is an answer. It is written and read here, because http.Transport has three
// goroutines for each connection, which cost more than the question and its answer.
func (w way) request(ctx context.Context, at, target string, p health.Probe) (*http.Response, error) {
	method := p.Method
	if method == "" {
		method = http.MethodGet
	}

	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}

	req.Close = true
	req.Header.Set("User-Agent", "ic-healthd")
	for k, v := range p.Headers {
		req.Header.Set(k, v)
	}

	if p.Host != "" {
		req.Host = p.Host
	}

	conn, done, err := w.open(ctx, at, p)
	if err != nil {
		return nil, err
	}

	err = req.Write(conn)
	if err != nil {
		done()
		return nil, err
	}

	r := bufio.NewReader(io.LimitReader(conn, headerLimit+bodyLimit))
	resp, err := http.ReadResponse(r, req)
	for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols { // an announcement
		resp, err = http.ReadResponse(r, req)
	}

	if err != nil {
		done()
		return nil, err
	}

	resp.Body = body{resp.Body, done}

	return resp, nil
}

// headerLimit is how long the header of an answer may be.
const headerLimit = 64 << 10

// body is that of an answer; its connection ends with it.
type body struct {
	io.Reader
	done func()
}

func (b body) Close() error {
	b.done()
	return nil
}

// sameServer is where a redirection leads, as long as that is the server that sent it.
func sameServer(from string, p health.Probe, location string) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", err
	}

	to, err := base.Parse(location)
	if err != nil || location == "" {
		return "", fmt.Errorf("it redirects to %q", location)
	}

	if to.Scheme != base.Scheme || to.Host != base.Host && to.Host != p.Host {
		return "", fmt.Errorf("it redirects to another server, %s", to.Redacted())
	}

	to.Host = base.Host

	return to.String(), nil
}

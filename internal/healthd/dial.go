package healthd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// bodyLimit is how much of an answer is searched.
const bodyLimit = 64 << 10

// errNoAddress says that a probe has no way to its instance.
var errNoAddress = errors.New("the instance has no static address on its NIC that the host could connect to")

// way opens a connection to an instance.
type way func(ctx context.Context, network, address string) (net.Conn, error)

// direct is the way of the host: a client like any other of the instance's network.
var direct = way((&net.Dialer{}).DialContext)

// dial makes a probe of what listens at an address.
func (w way) dial(ctx context.Context, address string, p health.Probe, timeout time.Duration) health.Result {
	if p.Within > 0 {
		timeout = min(timeout, p.Within)
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	said, err := w.ask(ctx, net.JoinHostPort(address, strconv.Itoa(p.At())), p)
	r := health.Result{Verdict: health.Passed, Output: text([]byte(said), false)}
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Verdict, r.Code, r.Output = health.TimedOut, -1, fmt.Sprintf("exceeded timeout (%s)", timeout)
	case ctx.Err() != nil:
		r.Verdict, r.Output = health.NoAnswer, "called off"
	case hostFault(err):
		r.Verdict, r.Output = health.NoAnswer, err.Error()
	default:
		r.Verdict, r.Code, r.Output = health.Failed, 1, err.Error()
	}

	return r
}

// hostFault tells of errors that are the host's and not the instance's.
func hostFault(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}

	return false
}

// addressOf finds the address of a NIC: the named one's, or that of the first that has one.
func addressOf(devices map[string]map[string]string, device string) (netip.Addr, error) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		d := devices[name]
		if d["type"] != "nic" || device != "" && name != device {
			continue
		}

		for _, key := range []string{"ipv4.address", "ipv6.address"} {
			bare, _, _ := strings.Cut(d[key], "/")
			addr, err := netip.ParseAddr(bare)
			if err == nil {
				return addr, nil
			}
		}
	}

	return netip.Addr{}, errNoAddress
}

// ask makes the probe and returns what was said.
func (w way) ask(ctx context.Context, at string, p health.Probe) (string, error) {
	switch p.Type {
	case "http":
		return w.http(ctx, at, p)
	case "grpc":
		return w.grpc(ctx, at, p)
	case "dns":
		return w.dns(ctx, at, p)
	case "redis":
		return w.redis(ctx, at, p)
	case "postgres":
		return w.postgres(ctx, at)
	}

	return w.tcp(ctx, at, p)
}

func tlsFor(p health.Probe) *tls.Config {
	return &tls.Config{ServerName: p.Host, InsecureSkipVerify: !p.Verify} //nolint:gosec // a check asks whether it answers; Verify is for more
}

func (w way) tcp(ctx context.Context, at string, p health.Probe) (string, error) {
	conn, err := w(ctx, "tcp", at)
	if err != nil {
		return "", err
	}

	defer func() { _ = conn.Close() }()
	if !p.TLS {
		return "connected", nil
	}

	conf := tlsFor(p)
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(at)
	}

	err = tls.Client(conn, conf).HandshakeContext(ctx)
	if err != nil {
		return "", err
	}

	return "connected with TLS", nil
}

func (w way) http(ctx context.Context, at string, p health.Probe) (string, error) {
	scheme := "http"
	if p.TLS {
		scheme = "https"
	}

	tr := &http.Transport{DialContext: w, DisableKeepAlives: true, TLSClientConfig: tlsFor(p), MaxResponseHeaderBytes: bodyLimit}
	defer tr.CloseIdleConnections()
	target := scheme + "://" + at + "/" + strings.TrimPrefix(p.Path, "/")
	resp, err := requestHTTP(ctx, tr, target, p)
	for hop := 0; p.Follow && err == nil && resp.StatusCode >= 300 && resp.StatusCode <= 399 && hop < maxHops; hop++ {
		_ = resp.Body.Close()
		target, err = sameServer(target, p, resp.Header.Get("Location"))
		if err == nil {
			resp, err = requestHTTP(ctx, tr, target, p)
		}
	}

	if err != nil {
		return "", err
	}

	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
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
	case p.Body != "" && !strings.Contains(string(body), p.Body):
		return "", fmt.Errorf("the answer does not contain %q", p.Body)
	}

	return resp.Status, nil
}

// maxHops is how many redirections are followed (busybox's wget follows as many).
const maxHops = 5

// requestHTTP makes one request; a redirection is an answer.
func requestHTTP(ctx context.Context, tr *http.Transport, target string, p health.Probe) (*http.Response, error) {
	method := p.Method
	if method == "" {
		method = http.MethodGet
	}

	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}

	req.Header.Set("User-Agent", "ic-healthd")
	for k, v := range p.Headers {
		req.Header.Set(k, v)
	}

	if p.Host != "" {
		req.Host = p.Host
	}

	return tr.RoundTrip(req)
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

// dns asks the server in the instance for addresses of a name, over UDP where the way has it.
func (w way) dns(ctx context.Context, at string, p health.Probe) (string, error) {
	res := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w(ctx, network, at)
	}}
	addrs, err := res.LookupHost(ctx, strings.TrimSuffix(p.Name, ".")+".")
	if err != nil {
		return "", err
	}

	return strings.Join(addrs, " "), nil
}

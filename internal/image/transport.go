package image

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// transports carries requests with the trust each host deserves: the system's authorities, those of a
// directory named for the host as well (certs.d), or none where the settings call it insecure.
type transports struct {
	opts Options

	mu     sync.Mutex
	byHost map[string]http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transports) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.of(req.URL.Host).RoundTrip(req)
}

func (t *transports) of(host string) http.RoundTripper {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.byHost[host]
	if ok {
		return known
	}
	made := newTransport()
	switch {
	case t.opts.insecure(host):
		made.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the user's word for this host
	case len(t.opts.authorities(host)) > 0:
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for _, pem := range t.opts.authorities(host) {
			pool.AppendCertsFromPEM(pem)
		}
		made.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	if t.byHost == nil {
		t.byHost = map[string]http.RoundTripper{}
	}
	t.byHost[host] = made
	return made
}

// insecure tells whether the settings allow plain http, and any certificate, for a registry.
func (o Options) insecure(host string) bool {
	name, _, err := net.SplitHostPort(host)
	return slices.Contains(o.Insecure, host) || err == nil && slices.Contains(o.Insecure, name)
}

// authorities returns the certificates kept for a registry, as in containers-certs.d(5).
func (o Options) authorities(host string) [][]byte {
	var all [][]byte
	for _, dir := range o.CertDirs {
		names, err := filepath.Glob(filepath.Join(dir, host, "*.crt"))
		if err != nil {
			continue // the host is no pattern that could be wrong
		}
		for _, name := range names {
			pem, err := os.ReadFile(name)
			if err == nil {
				all = append(all, pem)
			}
		}
	}
	return all
}

// newTransport gives up on a silent registry long before a caller's deadline of minutes, and keeps no
// connection for long: a daemon asks rarely.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       15 * time.Second,
	}
}

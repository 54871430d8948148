package incus_test

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/incus-compose/ic-agent/internal/incus"
)

// TestACutListIsNoShorterList: wherever an answer ends early, what it lists until then is not taken for all there is.
func TestACutListIsNoShorterList(t *testing.T) {
	const whole = `{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":[` +
		`{"name":"web-1","project":"blog","config":{"user.ic-agent.owner":"me"},"status":"Running"},` +
		`{"name":"web-2","project":"blog","config":{"user.ic-agent.owner":"me"},"status":"Running"}]}`
	body := ""
	socket := filepath.Join(t.TempDir(), "incus.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })}
	defer srv.Close()
	go func() { _ = srv.Serve(listener) }()
	c := incus.New(incus.Options{Socket: socket})
	for n := range len(whole) {
		body = whole[:n]
		list, err := c.Owned(t.Context(), "me")
		if !errors.Is(err, incus.ErrUnavailable) {
			t.Errorf("%s: got %d instances, error %v", body, len(list), err)
		}
	}
	for _, odd := range []string{`{}`, `[]`, `"x"`, `{"metadata":{}}`, `{"metadata":[1]}`} {
		body = odd
		_, err := c.Owned(t.Context(), "me")
		if !errors.Is(err, incus.ErrUnavailable) {
			t.Errorf("%s: error %v", odd, err)
		}
	}
	body = whole
	list, err := c.Owned(t.Context(), "me")
	if err != nil || len(list) != 2 {
		t.Errorf("got %v, %v", list, err)
	}
}

package healthd

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestTheGuestBelievesOneServerOnly(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, fingerprint(r.TLS.PeerCertificates[0].Raw))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	cert, err := identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := identity(dir)
	if err != nil || !bytes.Equal(again.Certificate[0], cert.Certificate[0]) {
		t.Errorf("another certificate, or %v", err)
	}
	fi, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's file is %v: %v", fi.Mode(), err)
	}
	r := Remote{Address: strings.TrimPrefix(srv.URL, "https://"), Fingerprint: fingerprint(srv.Certificate().Raw)}
	c := http.Client{Transport: &http.Transport{DialTLSContext: dialed(r, cert)}}
	resp, err := c.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != fingerprint(cert.Certificate[0]) {
		t.Errorf("the server saw %s", body)
	}
	r.Fingerprint = strings.Repeat("0", 64)
	_, err = r.dialer(cert)(t.Context())
	if err == nil || !strings.Contains(err.Error(), "instead of 000000000000") {
		t.Errorf("another server: %v", err)
	}
}

func TestTheGuestsImage(t *testing.T) {
	archive, sum, err := guestImage([]byte("program"), "x86_64")
	again, sumAgain, _ := guestImage([]byte("program"), "x86_64")
	if err != nil || sum != sumAgain || !bytes.Equal(archive, again) {
		t.Errorf("the same program gives another image: %v", err)
	}
	_, other, _ := guestImage([]byte("newer"), "x86_64")
	if other == sum {
		t.Error("another program gives the same image")
	}
	found := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		b, _ := io.ReadAll(r)
		found[h.Name] = string(b)
	}
	if found["rootfs/sbin/init"] != "program" || !strings.Contains(found["metadata.yaml"], `architecture: "x86_64"`) {
		t.Errorf("it holds %v", found)
	}
}

func TestWhereTheHostReachesIncus(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8443": "127.0.0.1:8443", ":8443": "127.0.0.1:8443", "0.0.0.0:9000": "127.0.0.1:9000", "[::]:8443": "127.0.0.1:8443",
		"10.1.2.3": "10.1.2.3:8443", "[fd00::1]:8443": "[fd00::1]:8443",
	} {
		if got := loopbackOf(address); got != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}

// The host's daemon hears of a project's own at once, and takes the project back when that stops.
func TestH24AProjectWithADaemonOfItsOwnIsLeftAlone(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", keys(health.KeyRestart, "always"))
		h.settle()
		h.is("web", "healthy", "Running")
		h.create(guestName, map[string]string{health.KeyDaemon: "true", health.KeyIgnore: "true"})
		h.do("blog", plan.UpdateProject{Name: "blog", Set: map[string]string{health.KeyScope: "project"}})
		h.settle()
		h.crash("web")
		h.settle()
		h.is("web", "unknown", "Stopped")
		h.crash(guestName)
		h.settle()
		h.settle()
		if log := h.log.String(); !strings.Contains(log, "the project is left alone") {
			h.Errorf("it says %s", log)
		}
		v, err := h.r.View(h.Context())
		if err != nil || len(v.Refused) != 0 {
			h.Errorf("left alone: %v (%v)", v.Refused, err)
		}
	})
}

// dialed is a dialer as net/http wants it.
func dialed(r Remote, cert tls.Certificate) func(context.Context, string, string) (net.Conn, error) {
	dial := r.dialer(cert)
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
}

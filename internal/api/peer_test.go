package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestTheKernelSaysWhoIsCalling(t *testing.T) {
	path := socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := peerOf(s)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if p.uid != uint32(os.Geteuid()) || !slices.Contains(p.gids, uint32(os.Getegid())) {
		t.Errorf("%+v", p)
	}
	for _, g := range groups {
		if !slices.Contains(p.gids, uint32(g)) {
			t.Errorf("group %d is not among %v", g, p.gids)
		}
	}
}

func TestWhoMayChangeSomething(t *testing.T) {
	r := rules{self: 990, gids: []uint32{990, 117}}
	for _, c := range []struct {
		who            string
		peer           peer
		rules          rules
		read, mutating bool
	}{
		{"root", peer{uid: 0}, r, true, true},
		{"the agent", peer{uid: 990}, r, true, true},
		{"a member of one of the groups", peer{uid: 1000, gids: []uint32{1000, 117}}, r, true, true},
		{"anybody else", peer{uid: 1000, gids: []uint32{1000, 27}}, r, true, false},
		{"somebody of another user namespace", peer{uid: overflowUID, gids: []uint32{117}}, r, false, false},
		{"nobody, when the agent is nobody", peer{uid: overflowUID}, rules{self: overflowUID}, true, true},
	} {
		if c.rules.known(c.peer) != c.read || c.rules.change(c.peer) != c.mutating {
			t.Errorf("%s: read %v, change %v", c.who, c.rules.known(c.peer), c.rules.change(c.peer))
		}
		h := newServer(fake{}, quiet(), generous()).guard(c.rules)
		for method, allowed := range map[string]bool{http.MethodGet: c.read, http.MethodPost: c.mutating} {
			w := httptest.NewRecorder()
			ctx := context.WithValue(t.Context(), peerKey{}, c.peer)
			h.ServeHTTP(w, httptest.NewRequest(method, "/v1/nothing", nil).WithContext(ctx))
			if (w.Code == http.StatusForbidden) == allowed {
				t.Errorf("%s: %s gave %d", c.who, method, w.Code)
			}
		}
	}
	w := httptest.NewRecorder()
	newServer(fake{}, quiet(), generous()).guard(r).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/status", nil))
	if w.Code != http.StatusForbidden {
		t.Errorf("a caller the kernel does not know: %d", w.Code)
	}
}

// TestAnotherUserIsToldWhatHeMayDo runs a client as an ordinary user. Only root can make one; others see what
// they may do themselves.
func TestAnotherUserIsToldWhatHeMayDo(t *testing.T) {
	path := serve(t, NewServer(fake{}, quiet()))
	err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chown(path, -1, os.Getegid()))
	if err != nil {
		t.Fatal(err)
	}
	run := func(cred *syscall.Credential) string {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), clientEnv+"="+path, "GORACE=atexit_sleep_ms=0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	if os.Geteuid() != 0 {
		if out := run(nil); out != "status: <nil>\nreload: <nil>\n" {
			t.Errorf("myself: %s", out)
		}
		return
	}
	user := func(groups ...uint32) *syscall.Credential {
		return &syscall.Credential{Uid: 4242, Gid: 4242, Groups: groups}
	}
	if out := run(user()); strings.Count(out, "you may not talk to ic-agent: try it with sudo, or join the group root") != 2 {
		t.Errorf("a stranger at a socket that is closed to him: %s", out)
	}
	if out := run(user(0)); out != "status: <nil>\nreload: <nil>\n" {
		t.Errorf("a member of the group: %s", out)
	}
	err = os.Chmod(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	want := "status: <nil>\nreload: only root and members of the group incus-admin may do that: try it with sudo\n"
	if out := run(user()); out != want {
		t.Errorf("a stranger at an open socket: %s", out)
	}
}

func TestListen(t *testing.T) {
	t.Run("the mode", func(t *testing.T) {
		path := socket(t)
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o660 {
			t.Error(fi.Mode(), err)
		}
	})
	t.Run("a stale socket is replaced", func(t *testing.T) {
		path := socket(t)
		stale(t, path)
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
	t.Run("one in use is not", func(t *testing.T) {
		path := socket(t)
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = Listen(path)
		if err == nil || !strings.Contains(err.Error(), "another ic-agent serves "+path) {
			t.Error(err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal("the first one is gone:", err)
		}
		_ = c.Close()
	})
	t.Run("a file is not", func(t *testing.T) {
		path := socket(t)
		err := os.WriteFile(path, []byte("mine"), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Listen(path)
		if err == nil || !strings.Contains(err.Error(), "is not a socket") {
			t.Error(err)
		}
		b, _ := os.ReadFile(path)
		if string(b) != "mine" {
			t.Error("the file was touched")
		}
	})
	t.Run("no directory", func(t *testing.T) {
		_, err := Listen(filepath.Join(t.TempDir(), "no", "s"))
		if err == nil || !strings.Contains(err.Error(), "make the directory") {
			t.Error(err)
		}
	})
	t.Run("a path too long", func(t *testing.T) {
		_, err := Listen("/tmp/" + strings.Repeat("x", 120))
		if err == nil || !strings.Contains(err.Error(), "107 bytes") {
			t.Error(err)
		}
	})
}

// stale leaves a socket behind that nobody listens to.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func TestTheClientSaysWhyNobodyAnswers(t *testing.T) {
	answering := func(text string) string {
		path := socket(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1024))
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}()
		return path
	}
	left := socket(t)
	stale(t, left)
	for _, c := range []struct {
		name, path string
		want       Error
	}{
		{"no socket", socket(t), Error{NotRunning, "ic-agent is not running", "start it with: systemctl start ic-agent"}},
		{"a stale socket", left, Error{NotRunning, "ic-agent is not running", "start it with: systemctl start ic-agent"}},
		{"it hangs up", answering(""), Error{NotRunning, "ic-agent stopped while it was asked", "systemctl status ic-agent says why"}},
		{"it is something else", answering("HTTP/1.0 418 I'm a teapot\r\n\r\nshort and stout"), Error{Internal, "the agent answered 418 I'm a teapot", sameAge}},
	} {
		_, err := NewClient(c.path).Status(t.Context())
		var got *Error
		if !errors.As(err, &got) || *got != c.want {
			t.Errorf("%s: %#v, want %#v", c.name, err, c.want)
		}
	}
}

package hostdir

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// helper listens as systemd does, with a process for each connection.
func helper(t *testing.T) Maker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			_ = Serve(conn, conn)
			_ = conn.Close()
		}
	}()

	return Maker{Socket: path}
}

func TestMissingDirectoryIsMadeWithItsParents(t *testing.T) {
	for name, m := range map[string]Maker{"with a helper": helper(t), "without": {Socket: filepath.Join(t.TempDir(), "none")}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a", "b")
			for range 2 { // the second time it is there
				err := m.Make(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
			}

			info, err := os.Stat(path)
			if err != nil || !info.IsDir() {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}

// What is there stays as it is, a file too: compose mounts files.
func TestWhatExistsStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := os.WriteFile(path, []byte("x"), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	err = helper(t).Make(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}

	got, err := os.ReadFile(path)
	if string(got) != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefusedDirectorySaysWhatToDo(t *testing.T) {
	m := helper(t)
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}

	err = m.Make(t.Context(), filepath.Join(dir, "file", "below"))
	if err == nil || !strings.Contains(err.Error(), "not a directory") || !strings.Contains(err.Error(), "mkdir -p ") {
		t.Errorf("%v", err)
	}
}

func TestHelperRefusesOddPaths(t *testing.T) {
	for _, path := range []string{"", "relative", "/a/../etc/x", "/a//b", "/proc/x", "/sys", "/dev/shm/x/y", "/a\x00b", "/" + strings.Repeat("x/", 3000) + "x"} {
		var out bytes.Buffer
		err := Serve(strings.NewReader(path+"\n"), &out)
		if err != nil || out.String() == "ok\n" {
			t.Errorf("%.40q: %q, %v", path, out.String(), err)
		}
	}
}

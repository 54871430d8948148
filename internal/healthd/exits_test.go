package healthd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

func TestH20ExitCodesFromTheKernel(t *testing.T) {
	t.Run("by descriptor", func(t *testing.T) {
		exitCodes(t, descriptorsTell(), func(*exits) {})
	})
	t.Run("by connector", func(t *testing.T) {
		x, err := newExits("")
		if err != nil {
			t.Fatal(err)
		}
		err = x.connect()
		if err != nil {
			t.Log(err) // not in the initial namespaces, or an older kernel: the log has to do
			return
		}
		exitCodes(t, true, func(x *exits) {
			err := x.connect()
			if err != nil {
				t.Fatal(err)
			}
		})
	})
}

// exitCodes runs programs that end in every way; tells says whether this kernel tells of it once x is prepared.
func exitCodes(t *testing.T, tells bool, prepare func(x *exits)) {
	t.Helper()
	cgroups := t.TempDir()
	events := filepath.Join(cgroups, "lxc.payload.blog_web", "memory.events")
	err := os.MkdirAll(filepath.Dir(events), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script string
		kills  int
		want   health.Exit
		says   string
	}{
		"exit 0":    {"read x; exit 0", 0, health.Exit{Known: true}, "exit code 0"},
		"exit 3":    {"read x; exit 3", 0, health.Exit{Known: true, Code: 3}, "exit code 3"},
		"SIGKILL":   {"read x; kill -9 $$", 0, health.Exit{Known: true, Code: 137, Signal: "9"}, "killed by signal 9"},
		"SIGTERM":   {"read x; kill -15 $$", 0, health.Exit{Known: true, Code: 143, Signal: "15"}, "killed by signal 15"},
		"passed on": {"read x; exit 137", 0, health.Exit{Known: true, Code: 137, Signal: "9"}, "killed by signal 9"},
		"no such":   {"read x; exit 127", 0, health.Exit{Known: true, Code: 127}, "exit code 127 (command not found)"},
		"want of memory, or not": {
			"read x; kill -9 $$", 1,
			health.Exit{Known: true, Code: 137, Signal: "9", Kills: 1},
			"killed by signal 9; 1 kill for want of memory in this run",
		},
		"others for want of memory": {"read x; exit 1", 2, health.Exit{Known: true, Code: 1, Kills: 2}, "exit code 1; 2 kills for want of memory in this run"},
		"and none the less well":    {"read x; exit 0", 2, health.Exit{Known: true, Kills: 2}, "exit code 0"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := newExits(cgroups)
			if err != nil {
				t.Fatal(err)
			}
			write := func(kills string) {
				err := os.WriteFile(events, []byte("low 0\noom 9\noom_kill "+kills+"\n"), 0o600)
				if err != nil {
					t.Fatal(err)
				}
			}
			write("1")
			prepare(x)
			ctx, cancel := context.WithCancel(t.Context())
			heard := make(chan struct{})
			go func() {
				defer close(heard)
				err := x.hear(ctx)
				if err != nil {
					t.Error(err)
				}
			}()
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", c.script)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			err = cmd.Start()
			if err != nil {
				t.Fatal(err)
			}
			id, run := health.ID{Project: "blog", Name: "web"}, time.Unix(5, 0)
			err = x.follow(id, run, cmd.Process.Pid, func() bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			if got := x.of(id, run); got.Known || !x.knows(id, run) || x.knows(id, time.Unix(6, 0)) {
				t.Errorf("while it runs it ended with %s", got)
			}
			write(strconv.Itoa(1 + c.kills))
			_ = in.Close()
			_ = cmd.Wait()
			got := x.of(id, run)
			want := c.want
			if !tells {
				want = health.Exit{}
			}
			if got != want || tells && got.String() != c.says {
				t.Errorf("it is %+v (%s), want %+v", got, got, want)
			}
			if x.starved(id, run) != c.kills || x.starved(id, time.Unix(6, 0)) != 0 {
				t.Error("what the control group counted is not found, or for another run")
			}
			if got := x.of(id, time.Unix(6, 0)); got.Known {
				t.Errorf("another run ended with %s", got)
			}
			cancel()
			<-heard
		})
	}
}

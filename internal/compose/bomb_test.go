package compose

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"
)

// bomb is a hostile file, and what the child says about it.
type bomb struct{ name, yaml, want string }

// bombs makes them when they are asked for: this binary is also the child, which should start quickly.
func bombs() []bomb {
	return []bomb{
		{"alias bomb of lists", aliasBomb("[%s]", "*%s"), "more than 1000 aliases"},
		{"alias bomb of maps", aliasBomb("{%s}", "%[2]d: *%[1]s"), "more than 1000 aliases"},
		{"flow depth", "a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "exceeded max depth of 64"},
		{"flow depth without an end", "a: " + strings.Repeat("{a: ", 200_000), "exceeded max depth of 64"},
		{"block depth", strings.Repeat("- ", 400_000) + "x", "exceeded max depth of 64"},
		{"nested variables", "services: {web: {image: \"" + strings.Repeat("${A:-", 20_000) + strings.Repeat("}", 20_000) + "\"}}", "variables nested more than 16 deep"},
		{"many variables", "services: {web: {image: \"" + strings.Repeat("${A}", 200_000) + "\"}}", "more than 1000 variables in one value"},
		{"env_file that never ends", oneService("env_file: /dev/zero"), "services.web.env_file: /dev/zero lies outside the stack's directory"},
		{"include that never ends", "include: [/dev/zero]\nservices: {}", "include.0: /dev/zero lies outside the stack's directory"},
		{"env_file of the host", oneService("env_file: /etc/passwd"), "/etc/passwd lies outside"},
		{"env_file above", oneService("env_file: ../../../../../../etc/passwd"), "lies outside"},
		{"label_file of the host", oneService("label_file: /etc/passwd"), "/etc/passwd lies outside"},
		{"extends of the host", oneService("extends: {file: /etc/passwd, service: x}"), "services.web.extends: /etc/passwd lies outside"},
		{"config of the host", oneService("configs: [c]") + "configs: {c: {file: /etc/shadow}}", "configs.c.file: /etc/shadow lies outside"},
		{"variables of an include of the host", "include: [{path: other.yaml, env_file: /etc/passwd}]\nservices: {}", "/etc/passwd lies outside"},
		{"remote include", "include: ['https://example.com/compose.yaml']\nservices: {}", `"https://example.com/compose.yaml" is remote`},
		{"include of a registry", "include: ['oci://example.com/x']\nservices: {}", "is remote"},
		{"include in a merged mapping", "x: &x {include: [/dev/zero]}\n<<: *x\nservices: {}", "/dev/zero lies outside"},
		{"include of itself", "include: [blog.yaml]\nservices: {}", "includes itself: blog.yaml → blog.yaml"},
		{"includes in a circle", "include: [ring.yaml]\nservices: {}", "includes itself: blog.yaml → ring.yaml → blog.yaml"},
		{"includes in very many ways", "include: [twice0.yaml, twice0.yaml]\nservices: {}", "more than 256 files"},
		{"extends of itself", oneService("extends: {service: web}"), "Circular reference"},
		{"extends in a circle", oneService("extends: {file: circle.yaml, service: a}"), "Circular reference"},
		{"a great many services", services(50_000), "more than 50000 keys and values"},
		{"many services", services(20_000), "20000 services; a file may have 1000"},
		{"a large stack file", services(100_000), "is larger than 1024 KiB"},
		{"every port", oneService("ports: ['1-65535:1-65535']"), `"1-65535:1-65535" is a range of 65535 ports`},
		{"fifo", oneService("env_file: pipe"), "pipe is not a regular file"},
		{"directory", oneService("env_file: ."), "is not a regular file"},
		{"link out", oneService("env_file: out"), "lies outside"},
		{"large file", oneService("env_file: large"), "is larger than 1024 KiB"},
	}
}

func oneService(lines string) string {
	return "services:\n  web:\n    image: nginx\n    " + lines + "\n"
}

func services(n int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&b, " s%d: {image: a}\n", i)
	}

	return b.String()
}

// aliasBomb is eight levels of nine aliases each.
func aliasBomb(level, alias string) string {
	var b strings.Builder
	b.WriteString("x0: &x0 1\n")
	for i := 1; i < 9; i++ {
		var items []string
		for n := range 9 {
			item := strings.ReplaceAll(alias, "%[2]d", fmt.Sprint(n))
			items = append(items, fmt.Sprintf(strings.ReplaceAll(item, "%[1]s", "%s"), fmt.Sprintf("x%d", i-1)))
		}

		fmt.Fprintf(&b, "x%d: &x%d "+level+"\n", i, i, strings.Join(items, ", "))
	}

	return b.String()
}

func TestHostileFilesAreRefused(t *testing.T) {
	beside := []txtar.File{
		{Name: "other.yaml", Data: []byte("services: {}\n")},
		{Name: "ring.yaml", Data: []byte("include: [blog.yaml]\nservices: {}\n")},
		{Name: "circle.yaml", Data: []byte("services: {a: {extends: b, image: x}, b: {extends: {service: a}}}\n")},
		{Name: "large", Data: make([]byte, maxFile+1)},
	}
	for i := range 30 {
		next := fmt.Sprintf("twice%d.yaml", i+1)
		beside = append(beside, txtar.File{Name: fmt.Sprintf("twice%d.yaml", i), Data: []byte("include: [" + next + ", " + next + "]\nservices: {}\n")})
	}

	beside = append(beside, txtar.File{Name: "twice30.yaml", Data: []byte("services: {}\n")})
	for _, tc := range bombs() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := stack(t, append([]txtar.File{{Name: "blog.yaml", Data: []byte(tc.yaml)}}, beside...))
			err := syscall.Mkfifo(filepath.Join(in.Dir, "pipe"), 0o600)
			if err != nil {
				t.Fatal(err)
			}

			err = os.Symlink("/etc/passwd", filepath.Join(in.Dir, "out"))
			if err != nil {
				t.Fatal(err)
			}

			_, err = self().Load(t.Context(), in)
			wantRefused(t, err, tc.want)
		})
	}
}

// The stack's own files come from the directory watch by name; what they are is looked at here.
func TestPipesAndDevicesAreNotStacks(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "blog.yaml")
	err := syscall.Mkfifo(pipe, 0o600)
	if err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{pipe, "/dev/zero", t.TempDir()} {
		_, err = self().Load(t.Context(), Input{Stack: "blog", Dir: t.TempDir(), Files: []string{path}})
		wantRefused(t, err, "is not a regular file (directories, devices and pipes are not read: name a file)")
	}

	_, err = self().Load(t.Context(), Input{Stack: "blog", Dir: t.TempDir(), Files: []string{"/nowhere/blog.yaml"}})
	wantRefused(t, err, "blog.yaml: does not exist")
}

// greedy children stand for whatever the scan does not foresee.
func TestGreedyChildrenAreKilled(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		wall       time.Duration
	}{
		{"cpu", fmt.Sprintf("reading it needs more than %d s of CPU time", maxCPU), 2 * time.Minute},
		{"memory", "reading it needs more than 512 MiB of memory", 2 * time.Minute},
		{"wall", "reading it took longer than 300ms", 300 * time.Millisecond},
		{"output", "the resolved stack is larger than 8 MiB", 2 * time.Minute},
		{"crash", "the parser ended with exit status 2: panic: surprise", 2 * time.Minute},
		{"killed", "the parser was ended by killed", 2 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.name == "memory" && raceDetector {
				return // the limit is not set then; see limit
			}

			c := Child{Argv: []string{os.Args[0], "greedy", tc.name}, Wall: tc.wall}
			wantRefused(t, loadChild(t, c, oneService("")), tc.want)
		})
	}
}

// greedy is a parse child that misbehaves, after it has limited itself as Main does.
func greedy(what string) int {
	err := limit()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	switch what {
	case "cpu":
		for n := 0; ; n++ {
			_ = n
		}
	case "memory":
		var hoard [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}

			hoard = append(hoard, b)
			_ = hoard
		}
	case "wall":
		select {}
	case "output":
		for {
			_, err = os.Stdout.Write(make([]byte, 1<<16))
			if err != nil {
				return 1
			}
		}
	case "orphan":
		return leaveOrphan()
	case "killed":
		err = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		if err != nil {
			return 1
		}
	default:
		panic("surprise")
	}

	return 0
}

// leaveOrphan starts a process that does not end by itself, writes its number into the stack's directory, and
// ends.
func leaveOrphan() int {
	var in Input
	err := json.NewDecoder(os.Stdin).Decode(&in)
	if err != nil {
		return 1
	}

	cmd := exec.Command(os.Args[0], "greedy", "wall")
	err = cmd.Start()
	if err != nil {
		return 1
	}

	err = os.WriteFile(filepath.Join(in.Dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
	if err != nil {
		return 1
	}

	return 3
}

func TestNothingOfTheChildSurvives(t *testing.T) {
	in := stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte(oneService(""))}})
	_, err := Child{Argv: []string{os.Args[0], "greedy", "orphan"}, Wall: 2 * time.Minute}.Load(t.Context(), in)
	wantRefused(t, err, "the parser ended with exit status 3")
	b, err := os.ReadFile(filepath.Join(in.Dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}

	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}

	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return // dead and gone
	}

	if err != nil {
		t.Fatal(err)
	}

	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
	if err != nil || n != 1 {
		t.Errorf("process %d still runs 20 s after the parser (%v)", pid, err)
	}
}

package build

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keepOut is for how long the images of earlier builds are kept on disk: Incus has them by then.
const keepOut = 7 * 24 * time.Hour

// Helper is the process that builds, one build each. Its input and output are the connection of the agent.
type Helper struct {
	// Cache is its directory: the builder's store and what came out.
	Cache string
	// Runtime is a directory for what a build needs while it lasts.
	Runtime string
}

// Out is the directory of the image of a key.
func Out(cache, key string) string { return filepath.Join(cache, "images", key) }

// Serve reads a Request from in, builds, and writes Replies to out. It ends when in does: nobody waits for the image
// then. The error is one of the connection; that of a build is a Reply.
func (h Helper) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}

	var req Request
	err = json.Unmarshal(line, &req)
	if err != nil || !isKey(req.Key) {
		return fmt.Errorf("read the request: %w", errors.Join(err, errors.New("it is damaged")))
	}

	go func() {
		_, _ = lines.ReadByte() // the agent sends no more: this is its end
		cancel()
	}()

	w := &replies{out: json.NewEncoder(out)}
	dir, err := h.build(ctx, req, w)
	if err != nil {
		return w.send(Reply{Error: err.Error()})
	}

	return w.send(Reply{Dir: dir})
}

// isKey tells a key from a path that leads elsewhere.
func isKey(s string) bool {
	return len(s) >= 16 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// replies writes one at a time.
type replies struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (r *replies) send(reply Reply) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.out.Encode(reply)
}

func (h Helper) build(ctx context.Context, req Request, w *replies) (string, error) {
	program, err := builder()
	if err != nil {
		return "", err
	}

	images := filepath.Join(h.Cache, "images")
	err = os.MkdirAll(images, 0o750)
	if err != nil {
		return "", fmt.Errorf("make a place for the image: %w", err)
	}

	prune(images, time.Now())
	work, err := os.MkdirTemp(h.Runtime, "build-")
	if err != nil {
		return "", fmt.Errorf("make a place for the build: %w", err)
	}

	defer func() { _ = os.RemoveAll(work) }() // the runtime directory goes with the unit anyway

	final := Out(h.Cache, req.Key)
	p := place{
		store: filepath.Join(h.Cache, "store"), run: filepath.Join(h.Runtime, "run"), out: final + ".new",
		idFile: filepath.Join(work, "id"), dockerfile: dockerfile(req.Spec), authFile: existing(req.AuthFile), chroot: !hasRuntime(),
	}
	if program == "docker" {
		p.run = work
	}

	if req.Spec.Inline != "" {
		p.dockerfile = filepath.Join(work, "Dockerfile")
		err = os.WriteFile(p.dockerfile, []byte(req.Spec.Inline), 0o600)
		if err != nil {
			return "", fmt.Errorf("write the inline Dockerfile: %w", err)
		}
	}

	req.Spec.Ulimits = append(req.Spec.Ulimits, ownLimits(program, req.Spec.Ulimits)...)
	context := req.Spec.Context
	err = run(ctx, w, context, append([]string{program}, buildArgs(program, req, p)...))
	if err != nil {
		return "", err
	}

	id, err := os.ReadFile(p.idFile)
	if err != nil {
		return "", fmt.Errorf("read the image's id: %w", err)
	}

	_ = os.RemoveAll(p.out) // of a build that was broken off; the export says when it cannot write
	for _, argv := range exportArgs(program, strings.TrimSpace(string(id)), p) {
		err = run(ctx, w, context, argv)
		if err != nil {
			return "", err
		}
	}

	err = publish(p.out, final)
	if err != nil {
		return "", err
	}

	tidy(ctx, program, strings.TrimSpace(string(id)), p, time.Now())

	return final, nil
}

// publish makes what came out readable for the agent's group, and puts it in its place in one step.
func publish(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		mode := fs.FileMode(0o640)
		if d.IsDir() {
			mode = 0o750
		}

		return os.Chmod(path, mode)
	})
	if err == nil {
		err = os.RemoveAll(to)
	}

	if err == nil {
		err = os.Rename(from, to)
	}

	if err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}

	return nil
}

// builder finds the program that builds.
func builder() (string, error) {
	for _, name := range programs {
		_, err := exec.LookPath(name)
		if err == nil {
			return name, nil
		}
	}

	return "", errors.New("there is no program here that builds images: apt install buildah")
}

// hasRuntime tells whether buildah can run steps in containers of its own.
func hasRuntime() bool {
	for _, name := range []string{"crun", "runc"} {
		_, err := exec.LookPath(name)
		if err == nil {
			return true
		}
	}

	return false
}

// existing returns the path, or nothing when there is no such file.
func existing(path string) string {
	if path == "" {
		return ""
	}

	_, err := os.Stat(path)
	if err != nil {
		return ""
	}

	return path
}

// prune removes images that were made long ago.
func prune(images string, now time.Time) {
	entries, err := os.ReadDir(images)
	if err != nil {
		return
	}

	for _, e := range entries {
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > keepOut {
			_ = os.RemoveAll(filepath.Join(images, e.Name())) // tried again with the next build
		}
	}
}

// run runs a program and sends its output line by line. Its error is the last thing it said.
func run(ctx context.Context, w *replies, dir string, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if local(dir) {
		cmd.Dir = dir
	}

	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	said := &lineWriter{w: w}
	cmd.Stdout, cmd.Stderr = said, said
	err := cmd.Run()
	said.flush()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.New("the build was broken off")
	}

	return fmt.Errorf("%s ended with %w", argv[0], err)
}

// lineWriter cuts what is written to it into lines.
type lineWriter struct {
	w    *replies
	rest []byte
}

// Write implements io.Writer.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := strings.Cut(string(l.rest), "\n")
		if !found {
			break
		}

		l.rest = []byte(rest)
		l.say(line)
	}

	return len(p), nil
}

func (l *lineWriter) flush() {
	l.say(string(l.rest))
	l.rest = nil
}

// say sends a line; a connection that is gone ends the build by itself.
func (l *lineWriter) say(line string) {
	line = strings.TrimRight(line, "\r")
	if strings.TrimSpace(line) != "" {
		_ = l.w.send(Reply{Line: line})
	}
}

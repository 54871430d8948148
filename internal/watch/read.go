package watch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// found is a stack as one scan of one directory saw it.
type found struct {
	stack Stack
	// own is a digest of everything about the stack but the files referred to; refs is the list of those,
	// refSum the digest of their contents, refTime the latest change of one of them.
	own, refs, refSum string
	refTime           time.Time
	// empty says that a compose file has no content.
	empty bool
	// unstable says that a file changed while it was read, so that nothing is known.
	unstable bool
	notes    []Problem
}

// source is where files are read from.
type source struct {
	dir   string // absolute; names are relative to it
	open  func(name string) (*os.File, error)
	stat  func(name string) (fs.FileInfo, error)
	lstat func(name string) (fs.FileInfo, error)
	trust trust
}

// rooted reads below root and nowhere else: a link that leads out is refused.
func rooted(root *os.Root, dir string, t trust) source {
	return source{dir: dir, trust: t, stat: root.Stat, lstat: root.Lstat, open: func(name string) (*os.File, error) {
		return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	}}
}

// everywhere reads any absolute path, links followed: for files that are only hashed.
func everywhere() source {
	open := func(name string) (*os.File, error) {
		return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	}
	return source{dir: "", trust: trust{any: true}, stat: os.Stat, lstat: os.Lstat, open: open}
}

// reading is what came of reading a file.
type reading struct {
	sum      string // sha256 of the content
	size     int64
	links    int       // its number of names
	changed  time.Time // its ctime
	refused  *Problem
	unstable bool
}

// read hashes a regular file of at most limit bytes. What it is gets decided before it is opened, and again
// on the opened file, so that opening has no side effect and nothing can be swapped in between.
func (s source) read(name string, limit int64) reading {
	path := filepath.Join(s.dir, name)
	info, err := s.stat(name)
	if err != nil && s.dangling(name, err) {
		return reading{refused: refusal(path, linkText)}
	}
	if err != nil {
		return failed(path, err)
	}
	bad := unfit(path, info, limit)
	if bad != nil {
		return reading{refused: bad}
	}
	f, err := s.open(name)
	if err != nil {
		return failed(path, err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return failed(path, err)
	}
	bad = unfit(path, before, limit)
	if bad == nil {
		bad = s.trusted(path, before)
	}
	if bad != nil {
		return reading{refused: bad}
	}
	h := sha256.New()
	n, err := io.CopyBuffer(h, io.LimitReader(f, limit+1), make([]byte, min(before.Size()+1, 32<<10)))
	if err != nil {
		return failed(path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return failed(path, err)
	}
	again, err := s.stat(name)
	return reading{
		sum: fmt.Sprintf("%x", h.Sum(nil)), size: n, links: int(sys(before).Nlink), changed: ctime(after),
		unstable: err != nil || n != after.Size() || !sameState(before, after) || !os.SameFile(after, again),
	}
}

// dangling tells whether a file does not exist because it is a link to nothing.
func (s source) dangling(name string, err error) bool {
	info, lerr := s.lstat(name)
	return errors.Is(err, fs.ErrNotExist) && lerr == nil && info.Mode().Type() == fs.ModeSymlink
}

// unfit returns why a file of that kind and size is not read.
func unfit(path string, info fs.FileInfo, limit int64) *Problem {
	kinds := map[fs.FileMode]string{
		fs.ModeDir: "a directory", fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket",
		fs.ModeDevice: "a device", fs.ModeDevice | fs.ModeCharDevice: "a device",
	}
	switch {
	case !info.Mode().IsRegular():
		kind, ok := kinds[info.Mode().Type()]
		if !ok {
			kind = "something else"
		}
		return refusal(path, "is "+kind+", not a file: remove or rename it")
	case info.Size() > limit:
		return refusal(path, fmt.Sprintf("has %d bytes, more than the %d that are read: move parts into other files (include, configs, env_file)",
			info.Size(), limit))
	}
	return nil
}

// trusted judges the file and the directories between it and the source's own, where the file really is.
func (s source) trusted(path string, info fs.FileInfo) *Problem {
	bad := s.trust.judge(path, sys(info))
	if bad != nil || s.trust.any {
		return bad
	}
	top, err := filepath.EvalSymlinks(s.dir)
	if err != nil {
		return failed(s.dir, err).refused
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // it has just vanished: the reading will not be stable
	}
	for dir := filepath.Dir(real); strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return nil // as above
		}
		bad := s.trust.judge(dir, sys(info))
		if bad != nil {
			return bad
		}
	}
	return nil
}

// failed turns an error of the file system into a refusal, or, when the file has vanished, into doubt.
func failed(path string, err error) reading {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESTALE):
		return reading{unstable: true}
	case errors.Is(err, fs.ErrPermission):
		return reading{refused: refusal(path, fmt.Sprintf("cannot be read by this service, which runs as uid %d (permission denied): "+
			"give it to root with mode 0644, or to its group with mode 0640", os.Getuid()))}
	case errors.As(err, &errno):
		return reading{refused: refusal(path, "cannot be read ("+errno.Error()+")")}
	}
	return reading{refused: refusal(path, linkText)} // os.Root's own error: the path leads out
}

func refusal(path, text string) *Problem { return &Problem{Path: path, Condition: Refused, Text: text} }

func sys(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

func ctime(info fs.FileInfo) time.Time {
	return time.Unix(sys(info).Ctim.Unix())
}

// sameState tells whether two looks at an open file agree that nobody has written it in between.
func sameState(a, b fs.FileInfo) bool {
	x, y := sys(a), sys(b)
	return x.Ino == y.Ino && x.Size == y.Size && x.Mtim == y.Mtim && x.Ctim == y.Ctim
}

// stack reads an entry's files and says what the stack is.
func (s source) stack(e entry, refs []string) found {
	abs := func(name string) string { return filepath.Join(s.dir, name) }
	f := found{stack: Stack{Name: e.name, Dir: abs(e.dir)}}
	own := sha256.New()
	if e.broken != "" {
		f.stack.Err = refusal(abs(e.broken), "cannot be listed ("+e.why+")")
	}
	for i, name := range slices.Concat(e.files, e.env) {
		isEnv := i >= len(e.files)
		if isEnv {
			f.stack.Env = append(f.stack.Env, abs(name))
		} else {
			f.stack.Files = append(f.stack.Files, abs(name))
		}
		r := s.read(name, maxFile)
		if r.refused == nil && !r.unstable && r.size == 0 && !isEnv {
			r.refused = refusal(abs(name), "is empty: write the stack's services into it, or remove it")
			f.empty = true
		}
		f.add(own, abs(name), r)
	}
	f.seal(own, refs)
	return f
}

// add takes one file's reading into the stack.
func (f *found) add(own hash.Hash, path string, r reading) {
	f.unstable = f.unstable || r.unstable
	if r.refused != nil && f.stack.Err == nil {
		f.stack.Err = r.refused
	}
	if r.links > 1 {
		f.notes = append(f.notes, Problem{Path: path, Stack: f.stack.Name, Condition: HardLinked, Text: fmt.Sprintf(
			"has %d names (hard links): an edit through another one is noticed only after a minute; copy the file instead", r.links)})
	}
	fmt.Fprintf(own, "%q %s\n", path, r.sum)
}

// seal reads the files referred to and computes the hashes.
func (f *found) seal(own hash.Hash, refs []string) {
	s := everywhere()
	sum := sha256.New()
	mine := map[string]bool{}
	for _, path := range slices.Concat(f.stack.Files, f.stack.Env) {
		mine[path] = true
	}
	for _, path := range refs {
		if mine[path] {
			continue
		}
		f.refs += path + "\x00"
		fmt.Fprintf(sum, "%q %s\n", path, f.refer(s, path))
	}
	f.own = fmt.Sprintf("%x", own.Sum(nil))
	f.refSum = fmt.Sprintf("%x", sum.Sum(nil))
	if f.stack.Err != nil {
		f.stack.Err.Stack = f.stack.Name
		return
	}
	f.stack.Hash = fmt.Sprintf("%x", sha256.Sum256([]byte(f.own+f.refSum)))
}

// refer returns what stands for a file referred to in the hash: the digest of its content, or why there is
// none. Whether it may be used is for the loader to say.
func (f *found) refer(s source, path string) string {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		return err.Error()
	}
	if ctime(info).After(f.refTime) {
		f.refTime = ctime(info)
	}
	if !info.Mode().IsRegular() {
		return info.Mode().String()
	}
	if info.Size() > maxReferred {
		return fmt.Sprint(info.Size(), sys(info).Ino, sys(info).Mtim, sys(info).Ctim)
	}
	r := s.read(path, maxReferred)
	f.unstable = f.unstable || r.unstable
	if r.refused != nil {
		return r.refused.Text
	}
	return r.sum
}

// maxReferred is the size up to which a file referred to is read; a larger one counts as changed when its
// size, inode or times do.
const maxReferred = 16 << 20

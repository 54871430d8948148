package compose

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	maxFile  = 1 << 20 // bytes of one file: Incus refuses bodies above 1 MiB anyway
	maxFiles = 256     // files of one stack
)

// Why a file is not read.
var (
	errOutside    = errors.New("lies outside the stack's directory")
	errMissing    = errors.New("does not exist")
	errNotRegular = errors.New("is not a regular file")
	errTooBig     = fmt.Errorf("is larger than %d KiB", maxFile>>10)
	errTooMany    = fmt.Errorf("is one of more than %d files", maxFiles)
)

// fileHint says what to do when a file is refused with err.
func fileHint(err error) string {
	switch {
	case errors.Is(err, errOutside):
		return "put the file, or a copy of it, beside the compose file and name it by a relative path"
	case errors.Is(err, errMissing):
		return "create the file or correct the path"
	case errors.Is(err, errNotRegular):
		return "directories, devices and pipes are not read: name a file"
	case errors.Is(err, errTooBig), errors.Is(err, errTooMany):
		return "make it smaller, or mount the data as a volume"
	}

	return "make it readable for the agent"
}

// files reads what a stack refers to, from inside its directory only, and remembers every byte it gave out.
type files struct {
	root *os.Root
	dir  string // as given
	real string // with symlinks resolved
	read map[string][]byte
	// missed are the paths that were looked for and do not exist.
	missed map[string]bool
}

func openFiles(dir string) (*files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the stack's directory: %w", err)
	}

	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		resolved = dir
	}

	return &files{root: root, dir: filepath.Clean(dir), real: resolved, read: map[string][]byte{}, missed: map[string]bool{}}, nil
}

func (f *files) close() error { return f.root.Close() }

// given reads a file the directory watch named: one of the stack's own, which may be a symlink to anywhere.
func (f *files) given(path string) ([]byte, error) {
	return f.once(path, func() (*os.File, error) {
		return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}

// referred reads a file that a compose file names by an absolute path.
func (f *files) referred(path string) ([]byte, error) {
	rel, err := f.inside(path)
	if err != nil {
		return nil, err
	}

	return f.once(path, func() (*os.File, error) {
		return f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}

// inside returns the path below the stack's directory, or errOutside.
func (f *files) inside(path string) (string, error) {
	for _, dir := range []string{f.dir, f.real} {
		rel, err := filepath.Rel(dir, path)
		if err == nil && filepath.IsLocal(rel) {
			return rel, nil
		}
	}

	return "", errOutside
}

func (f *files) once(path string, open func() (*os.File, error)) ([]byte, error) {
	b, seen := f.read[path]
	if seen {
		return b, nil
	}

	if len(f.read) >= maxFiles {
		return nil, errTooMany
	}

	b, err := readRegular(open)
	if err != nil {
		f.missed[path] = f.missed[path] || errors.Is(err, errMissing)
		return nil, err
	}

	f.read[path] = b

	return b, nil
}

// unchanged tells whether the file still holds what was read before. compose-go opens included files by
// itself, after us; this is how a file exchanged in between is found.
func (f *files) unchanged(path string) bool {
	rel, err := f.inside(path)
	if err != nil {
		return false
	}

	b, err := readRegular(func() (*os.File, error) {
		return f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})

	return err == nil && string(b) == string(f.read[path])
}

// readRegular reads what open opens, judging the opened file and not its name.
func readRegular(open func() (*os.File, error)) ([]byte, error) {
	file, err := open()
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, errMissing
	case errors.Is(err, syscall.ENXIO):
		return nil, errNotRegular
	case err != nil && strings.Contains(err.Error(), "path escapes"):
		return nil, errOutside
	case err != nil:
		return nil, fmt.Errorf("cannot be opened: %w", err)
	}

	defer file.Close()

	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be looked at: %w", err)
	}

	if !st.Mode().IsRegular() {
		return nil, errNotRegular
	}

	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}

	if len(b) > maxFile {
		return nil, errTooBig
	}

	return b, nil
}

// names returns the paths of everything read, sorted.
func (f *files) names() []string { return slices.Sorted(maps.Keys(f.read)) }

// wanted returns the paths of everything read or missed, sorted.
func (f *files) wanted() []string {
	all := f.names()
	for path, missing := range f.missed {
		if missing {
			all = append(all, path)
		}
	}

	slices.Sort(all)

	return all
}

// alike is a file's name in its stack's hash: under another name of the stack, or in another directory, it is the same.
func (f *files) alike(stack, name string) string {
	inner, below := strings.CutPrefix(name, f.dir+"/")
	rest, own := strings.CutPrefix(inner, stack+".")
	switch {
	case below && own:
		return "." + rest
	case below:
		return inner
	}

	return name
}

// hash is the hex sha256 over names and contents, each with its length before it.
func (f *files) hash(stack string) string {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}

	names := f.names()
	slices.SortStableFunc(names, func(a, b string) int { return strings.Compare(f.alike(stack, a), f.alike(stack, b)) })
	for _, name := range names {
		part([]byte(f.alike(stack, name)))
		part(f.read[name])
	}

	return hex.EncodeToString(h.Sum(nil))
}

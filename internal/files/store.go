package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	marker  = ".placed"
	pending = ".new"
	// modes are the bits a file may have: the agent's sandbox does not let it set others.
	modes = 0o777
)

// Store is the directory. Its methods may be called from any goroutine, for one instance from one at a time.
type Store struct {
	// Dir is absolute, on a tmpfs, and exists.
	Dir string
	// Chown gives a file or directory away; nil means os.Lchown, which needs CAP_CHOWN.
	Chown func(path string, uid, gid int) error
}

// Place makes the files of an instance be these, and nothing else; hash is what Placed says from then on. Files below
// /run/secrets appear by a rename each, others are written in place, because a mounted file stays the one it was. A
// Place that was broken off leaves no hash, and the next one does everything again.
func (s Store) Place(project, instance string, files []plan.File, hash string) error {
	if len(files) == 0 {
		return s.Remove(project, instance)
	}

	dir, err := s.of(project, instance)
	if err != nil {
		return err
	}

	err = s.place(dir, files, hash)
	if err != nil {
		return fmt.Errorf("place the files of %s: %w", instance, err)
	}

	return nil
}

func (s Store) place(dir string, files []plan.File, hash string) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return err
	}

	err = os.Remove(filepath.Join(dir, marker))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	wanted := map[string]bool{}
	for _, f := range files {
		path := filepath.Join(dir, f.HostPath())
		for at := path; at != dir; at = filepath.Dir(at) {
			wanted[at] = true
		}

		err = s.write(dir, path, f)
		if err != nil {
			return err
		}
	}

	err = s.clear(dir, wanted)
	if err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(dir, marker), []byte(hash), 0o600)
}

// write writes one file, whose directory below dir is made and taken back for it.
func (s Store) write(dir, path string, f plan.File) error {
	content, known := f.Bytes()
	if !known {
		return fmt.Errorf("the content of the secret %s is not known", f.Name)
	}

	parent := filepath.Dir(path)
	err := s.open(dir, parent)
	if err != nil {
		return err
	}

	in := path
	if parent != dir {
		in = filepath.Join(parent, pending)
	}

	err = s.fill(in, content)
	if err == nil {
		err = os.Chmod(in, os.FileMode(f.Mode&modes))
	}

	if err == nil {
		err = s.give(in, int(f.UID), int(f.GID))
	}

	if err == nil && in != path {
		err = os.Rename(in, path)
	}

	return err
}

// open makes the directories from below dir to parent and takes them, so that they can be written to.
func (s Store) open(dir, parent string) error {
	rel, err := filepath.Rel(dir, parent)
	if err != nil || rel == "." {
		return err
	}

	at := dir
	for part := range strings.SplitSeq(rel, "/") {
		at = filepath.Join(at, part)
		err = os.Mkdir(at, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}

		err = s.take(at, 0o755)
		if err != nil {
			return err
		}
	}

	return nil
}

// fill writes the content into a file that is there, or into a new one. The end is cut off last, so that a reader
// never finds less than one of the two contents.
func (s Store) fill(path string, content []byte) error {
	_, err := os.Lstat(path)
	if err == nil {
		err = s.take(path, 0o600)
	}

	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}

	_, err = file.Write(content)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}

	return errors.Join(err, file.Close())
}

// clear removes what is not wanted, and gives the directories that are mounted to root. What is wanted has been
// opened by then.
func (s Store) clear(dir string, wanted map[string]bool) error {
	var dirs, gone []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == dir:
		case !wanted[path]:
			gone = append(gone, path)
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.IsDir():
			dirs = append(dirs, path)
		}

		return nil
	})
	for _, path := range gone {
		err = errors.Join(err, s.drop(path))
	}

	for _, path := range dirs {
		err = errors.Join(err, s.give(path, 0, 0))
	}

	return err
}

// drop removes a file or a whole directory.
func (s Store) drop(path string) error {
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = s.take(at, 0o700)
		}

		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return errors.Join(err, os.RemoveAll(path))
}

// take makes a file or directory the agent's own again.
func (s Store) take(path string, mode os.FileMode) error {
	err := s.give(path, os.Geteuid(), os.Getegid())
	if err != nil {
		return err
	}

	return os.Chmod(path, mode)
}

func (s Store) give(path string, uid, gid int) error {
	chown := s.Chown
	if chown == nil {
		chown = os.Lchown
	}

	return chown(path, uid, gid)
}

// Placed tells, by instance of a project, the hash of the files that are there as a whole.
func (s Store) Placed(project string) (map[string]string, error) {
	dir, err := s.of(project, ".")
	if err != nil {
		return nil, err
	}

	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look at the placed files: %w", err)
	}

	out := map[string]string{}
	for _, e := range entries {
		hash, err := os.ReadFile(filepath.Join(dir, e.Name(), marker))
		if err == nil {
			out[e.Name()] = string(hash)
		}
	}

	return out, nil
}

// Remove removes what is kept for an instance; nothing is a success.
func (s Store) Remove(project, instance string) error {
	dir, err := s.of(project, instance)
	if err != nil {
		return err
	}

	err = s.drop(dir)
	if err != nil {
		return fmt.Errorf("remove the files of %s: %w", instance, err)
	}

	_ = os.Remove(filepath.Dir(dir)) // the project's, when it is empty

	return nil
}

// of is the directory of an instance. Names are Incus's, but Incus has not seen all of them yet.
func (s Store) of(project, instance string) (string, error) {
	for _, name := range []string{project, instance} {
		if !filepath.IsLocal(name) || strings.Contains(name, "/") {
			return "", fmt.Errorf("%q cannot be the name of an instance or project", name)
		}
	}

	return filepath.Join(s.Dir, project, instance), nil
}

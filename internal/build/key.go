package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// maxEntries bounds a context: more is a home directory by mistake.
const maxEntries = 200_000

// Keys computes the keys of builds. It remembers the hash of a tree for as long as nothing in it looks changed (size,
// times, inode), so that asking again is cheap. It is safe for concurrent use.
type Keys struct {
	mu    sync.Mutex
	trees map[string]tree // by root and what is ignored
}

// tree is what was last seen of a directory.
type tree struct {
	stamp string // over what stat(2) says
	sum   string // over the contents
	files []string
}

// Key returns the hash over all that goes into a build of a service of a project, and the files it was made from. The
// error says what cannot be read.
func (k *Keys) Key(project, service string, b plan.Build) (key string, files []string, err error) {
	h := sha256.New()
	spec := b
	spec.At = plan.Place{}
	text, err := json.Marshal([]any{"v1", project, service, spec})
	if err != nil {
		return "", nil, fmt.Errorf("hash the build: %w", err)
	}

	h.Write(text)
	for _, dir := range slices.Concat([]string{b.Context}, slices.Sorted(maps.Values(b.Contexts))) {
		if !local(dir) {
			continue
		}

		t, err := k.tree(dir, ignoreFile(dir, dockerfile(b)))
		if err != nil {
			return "", nil, err
		}

		fmt.Fprintf(h, "tree %s\n", t.sum)
		files = append(files, t.files...)
	}

	if b.Inline == "" && local(b.Context) {
		sum, err := fileSum(dockerfile(b))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("there is no %s: write it, or name another one with build.dockerfile", dockerfile(b))
		}
		if err != nil {
			return "", nil, fmt.Errorf("read the Dockerfile: %w", err)
		}

		fmt.Fprintf(h, "dockerfile %s\n", sum)
		files = append(files, dockerfile(b))
	}

	for _, s := range b.Secrets {
		// Its content is not ours to read: another file of that name, or a changed one, is another build.
		info, err := os.Stat(s.File)
		if err != nil {
			return "", nil, fmt.Errorf("the build secret %s: %w", s.ID, err)
		}

		fmt.Fprintf(h, "secret %s %s\n", s.ID, stamp(info))
	}

	return hex.EncodeToString(h.Sum(nil))[:40], files, nil
}

// local tells a directory from what the builder fetches.
func local(context string) bool { return filepath.IsAbs(context) }

func dockerfile(b plan.Build) string {
	if b.Dockerfile != "" {
		return b.Dockerfile
	}

	return filepath.Join(b.Context, "Dockerfile")
}

// ignoreFile is the file that says what the builder does not see: the Dockerfile's own, else that of the context.
func ignoreFile(context, dockerfile string) string {
	own := dockerfile + ".dockerignore"
	_, err := os.Stat(own)
	if err == nil {
		return own
	}

	return filepath.Join(context, ".dockerignore")
}

// tree hashes a directory: names, kinds, permissions and contents, not owners and times.
func (k *Keys) tree(root, ignored string) (tree, error) {
	rules, err := os.ReadFile(ignored)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return tree{}, fmt.Errorf("read %s: %w", ignored, err)
	}

	t, entries, err := survey(root, parseIgnore(string(rules)))
	if err != nil {
		return tree{}, err
	}

	id := root + "\x00" + string(rules)
	k.mu.Lock()
	known, ok := k.trees[id]
	k.mu.Unlock()
	if ok && known.stamp == t.stamp {
		return known, nil
	}

	t.sum, err = contents(root, entries)
	if err != nil {
		return tree{}, err
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trees == nil {
		k.trees = map[string]tree{}
	}

	k.trees[id] = t

	return t, nil
}

// survey walks a context without reading files.
func survey(root string, g ignore) (tree, []string, error) {
	var t tree
	var entries []string
	h := sha256.New()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read the build context: %w (the agent, user ic-agent, has to be able to read it)", err)
		}

		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}

		if g.hides(filepath.ToSlash(rel)) {
			if d.IsDir() && !g.excepts() {
				return filepath.SkipDir
			}

			return nil
		}

		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read the build context: %w", err)
		}

		entries = append(entries, rel)
		if len(entries) > maxEntries {
			return fmt.Errorf("the build context %s has more than %d files: leave some out in .dockerignore", root, maxEntries)
		}

		if info.Mode().IsRegular() {
			t.files = append(t.files, path)
		}

		fmt.Fprintf(h, "%q %s\n", rel, stamp(info))

		return nil
	})
	t.stamp = hex.EncodeToString(h.Sum(nil))

	return t, entries, err
}

// contents hashes the entries of a context.
func contents(root string, entries []string) (string, error) {
	h := sha256.New()
	for _, rel := range entries {
		err := entry(h, root, rel)
		if err != nil {
			return "", fmt.Errorf("read the build context: %w (the agent, user ic-agent, has to be able to read it)", err)
		}
	}

	return hex.EncodeToString(h.Sum(nil)), nil
}

func entry(h hash.Hash, root, rel string) error {
	path := filepath.Join(root, rel)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}

	fmt.Fprintf(h, "%q %o ", rel, info.Mode())
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}

		fmt.Fprintf(h, "%q", to)
	case info.Mode().IsRegular():
		sum, err := fileSum(path)
		if err != nil {
			return err
		}

		fmt.Fprint(h, sum)
	}

	fmt.Fprintln(h)

	return nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}

	defer func() { _ = f.Close() }() // read only

	h := sha256.New()
	_, err = io.Copy(h, f)

	return hex.EncodeToString(h.Sum(nil)), err
}

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// maxTable is the size up to which a passwd or group file is read, in bytes.
	maxTable = 1 << 20
	// maxLinks is how often a file may point elsewhere.
	maxLinks = 5
)

// The marks of the layer format (OCI image specification, layer.md, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// found is what the layers say of a path. The zero value: nothing yet.
type found struct {
	data []byte // of a regular file
	link string // where to look instead, as a path from the root without its slash
	done bool   // what is below does not matter
}

// readFiles reads regular files out of the layers, bottom first, following links. A file that is not there
// has no entry in the result.
func readFiles(layers []v1.Layer, paths ...string) (map[string][]byte, error) {
	out := map[string][]byte{}
	at := map[string]string{} // what each path came to after its links
	for _, p := range paths {
		at[p] = p
	}
	for range maxLinks {
		seen, err := search(layers, at)
		if err != nil {
			return nil, err
		}
		for p, target := range at {
			f := seen[target]
			if f.link != "" {
				at[p] = f.link
				continue
			}
			delete(at, p)
			if f.data != nil {
				out[p] = f.data
			}
		}
		if len(at) == 0 {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%w: its %s is a circle of links", ErrFormat, slices.Sorted(maps.Keys(at))[0])
}

// search looks through the layers from the top down to the first that settles all the targets of at.
func search(layers []v1.Layer, at map[string]string) (map[string]*found, error) {
	seen := map[string]*found{}
	for _, target := range at {
		seen[target] = &found{}
	}
	for _, layer := range slices.Backward(layers) {
		if settled(seen) {
			break
		}
		err := scan(layer, seen)
		if err != nil {
			return nil, err
		}
	}
	return seen, nil
}

func settled(seen map[string]*found) bool {
	for _, f := range seen {
		if !f.done {
			return false
		}
	}
	return true
}

// scan reads one layer to its end: only then is its digest verified.
func scan(layer v1.Layer, seen map[string]*found) error {
	body, err := layer.Uncompressed()
	if err != nil {
		return fmt.Errorf("open a layer: %w", err)
	}
	defer func() { _ = body.Close() }() // read only: the error of the reads is the one that counts
	hidden := map[string]bool{}
	entries := tar.NewReader(body)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read a layer: %w", err)
		}
		err = look(h, entries, seen, hidden)
		if err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, body)
	if err != nil {
		return fmt.Errorf("read a layer: %w", err)
	}
	for target := range hidden {
		seen[target].done = true // by this layer's whiteouts, which reach only what is below
	}
	return nil
}

// look compares one entry of a layer with the targets that are still open.
func look(h *tar.Header, content io.Reader, seen map[string]*found, hidden map[string]bool) error {
	name := clean(h.Name)
	dir, base := path.Split(name)
	for target, f := range seen {
		if f.done {
			continue
		}
		switch {
		case hides(dir, base, target):
			hidden[target] = true
		case covers(name, target):
			err := f.take(h, content, strings.TrimPrefix(target, name))
			if err != nil {
				return fmt.Errorf("%s: %w", target, err)
			}
		}
	}
	return nil
}

// take settles a target by an entry that is the target itself, or a parent of it with rest below.
func (f *found) take(h *tar.Header, content io.Reader, rest string) error {
	switch h.Typeflag {
	case tar.TypeDir:
		// A directory leaves what is below it as it is.
		f.done = rest == ""
	case tar.TypeSymlink:
		f.done = true
		f.link = clean(h.Linkname + rest)
		if !path.IsAbs(h.Linkname) {
			f.link = clean(path.Dir(clean(h.Name)) + "/" + h.Linkname + rest)
		}
	case tar.TypeLink:
		f.done, f.link = true, clean(h.Linkname+rest)
	default:
		f.done = true
		if rest != "" || h.Typeflag != tar.TypeReg {
			return nil
		}
		if h.Size > maxTable {
			return fmt.Errorf("%w: it is %d bytes long, and at most %d are read", ErrFormat, h.Size, maxTable)
		}
		var err error
		f.data, err = io.ReadAll(content)
		return err
	}
	return nil
}

// hides tells whether the entry dir+base is a mark that hides the target in the layers below.
func hides(dir, base, target string) bool {
	if base == opaque {
		return strings.HasPrefix(target, dir)
	}
	removed, mark := strings.CutPrefix(base, whiteout)
	return mark && covers(dir+removed, target)
}

// covers tells whether name is the target or one of its parents.
func covers(name, target string) bool {
	return name == target || strings.HasPrefix(target, name+"/")
}

// clean makes a path of a layer relative to the root; ".." does not lead out of it.
func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

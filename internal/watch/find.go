package watch

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Find returns the stack that a compose file, or a directory with one, makes, wherever it is: with the
// overrides and .env files a stack directory would add, but without asking who owns them. Files that cannot
// be used are in Err; an error means that there is no stack to be found, and says what to do.
func Find(path string) (Stack, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Stack{}, fmt.Errorf("find stack: %w", err)
	}
	info, err := os.Stat(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return Stack{}, fmt.Errorf("%s does not exist: give a compose file or a directory with a compose.yaml", show(path))
	}
	if err != nil {
		return Stack{}, fmt.Errorf("find stack: %w", err)
	}
	o := &opened{layer: layer{dir: filepath.Dir(abs)}, trust: trust{any: true}}
	base := filepath.Base(abs)
	if !info.IsDir() && !slices.Contains(mainNames, base) {
		return o.findFlat(base)
	}
	main := base
	if info.IsDir() {
		abs, main = filepath.Join(abs, mainNames[0]), ""
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return Stack{}, fmt.Errorf("find stack: %w", err)
	}
	o.dir = filepath.Dir(dir)
	return o.findFolder(filepath.Base(dir), main, path)
}

// findFlat finds the stack of NAME.yaml.
func (o *opened) findFlat(file string) (Stack, error) {
	abs := filepath.Join(o.dir, file)
	stem, ok := cutYAML(file)
	of := overrideOf(stem)
	switch {
	case !ok || ignored(file):
		return Stack{}, fmt.Errorf("%s is not a compose file's name and would be ignored: let it end in .yaml", show(abs))
	case of != "":
		return Stack{}, fmt.Errorf("%s is an override of the stack %s: name that stack's own file instead", show(abs), show(of))
	case !stackName.MatchString(stem):
		return Stack{}, Problem{Path: abs, Condition: InvalidName, Text: nameText(stem, filepath.Ext(file))}
	}
	err := o.open()
	if err != nil {
		return Stack{}, err
	}
	defer o.close()
	l := listing{inside: map[string][]string{}, broken: map[string]string{}}
	l.nodes = append(l.nodes, node{name: file})
	for _, name := range slices.Concat([]string{".env", stem + ".env"}, suffixed(stem+".override"), suffixed(stem+".incus")) {
		_, err := o.root.Lstat(name)
		if err == nil {
			l.nodes = append(l.nodes, node{name: name})
		}
	}
	o.lookForDropIns(stem+".d", l)
	return o.only(newClassifier(l).flatEntry(stem, file)), nil
}

// findFolder finds the stack of a directory. The directory's name is made a stack's, as where it is now is not
// where it will be. main is the file that was named; empty means whichever there is.
func (o *opened) findFolder(dir, main, given string) (Stack, error) {
	err := o.open()
	if err != nil {
		return Stack{}, err
	}
	defer o.close()
	l := listing{inside: map[string][]string{}, broken: map[string]string{}}
	o.look(dir, l)
	o.lookForDropIns(dir+".d", l)
	l.inside[dir] = slices.DeleteFunc(l.inside[dir], func(name string) bool {
		return main != "" && name != main && slices.Contains(mainNames, name)
	})
	e := newClassifier(l).folderEntry(cmp.Or(normal(dir), "stack"), dir)
	if len(e.files) == 0 || !slices.Contains(mainNames, filepath.Base(e.files[0])) {
		return Stack{}, fmt.Errorf("%s holds no compose.yaml: give a compose file or a directory with one", show(given))
	}
	return o.only(e), nil
}

// open opens the root that everything is read below.
func (o *opened) open() error {
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return fmt.Errorf("find stack: %w", err)
	}
	o.root = root
	return nil
}

func (o *opened) lookForDropIns(dir string, l listing) {
	info, err := o.root.Stat(dir)
	if err == nil && info.IsDir() {
		o.listDropIns(dir, l)
	}
}

// only reads one stack.
func (o *opened) only(e entry) Stack {
	f := rooted(o.root, o.dir, o.trust).stack(e, nil)
	if f.unstable && f.stack.Err == nil {
		f.stack.Err = refusal(f.stack.Files[0], "or a file beside it is being written just now: try again")
		f.stack.Hash = ""
	}
	return f.stack
}

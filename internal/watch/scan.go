package watch

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// request is all a scan needs to know.
type request struct {
	dirs     []string
	refs     map[string][]string // files referred to, by stack
	known    map[string]bool     // the stacks there are: looked at even when there are too many
	notifier Notifier            // told what to watch; nil when there is none
}

// survey is what a scan found. It holds facts only; compare judges them.
type survey struct {
	at       time.Time // the wall clock when it began
	layers   []layer
	problems []Problem
	// added says that a directory was newly watched, so that what happened in it before went unnoticed;
	// notifyErr that some are not watched.
	added     bool
	notifyErr error
}

// scan reads the directories. It changes nothing and may block as long as a file system does.
func scan(r request) survey {
	s := survey{at: time.Now()}
	var all []*opened
	for _, dir := range r.dirs {
		o := openLayer(dir, r.known)
		defer o.close()
		all = append(all, o)
	}
	names := map[string]bool{}
	for _, o := range all {
		for name := range o.entries {
			names[name] = true
		}
	}
	wanted, left := limit(names, r.known, maxStacks)
	if left > 0 {
		s.problems = append(s.problems, Problem{Path: r.dirs[0], Condition: TooMany, Text: fmt.Sprintf(
			"and the directories below it hold %d stacks more than the %d that are looked at; remove some", left, maxStacks)})
	}
	for _, o := range all {
		o.read(wanted, r.refs)
		s.layers = append(s.layers, o.layer)
	}
	if r.notifier != nil {
		s.added, s.notifyErr = r.notifier.Watch(watched(r, s.layers))
	}
	return s
}

// limit picks at most most of the names, known ones first, then in lexical order, and counts the rest.
func limit(names, known map[string]bool, most int) (wanted map[string]bool, left int) {
	if len(names) <= most {
		return names, 0
	}
	sorted := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		if known[a] != known[b] {
			return map[bool]int{true: -1, false: 1}[known[a]]
		}
		return strings.Compare(a, b)
	})
	wanted = map[string]bool{}
	for _, name := range sorted[:most] {
		wanted[name] = true
	}
	return wanted, len(names) - most
}

// watched lists the directories in which a change matters: the layers, what holds stacks in them, the
// directories above, where a layer may appear or be replaced, and those of the files referred to.
func watched(r request, layers []layer) []string {
	set := map[string]bool{}
	for _, l := range layers {
		set[nearest(filepath.Dir(l.dir))] = true
		if !l.absent {
			set[l.dir] = true
		}
		for _, dir := range l.dirs {
			set[dir] = true
		}
	}
	for _, files := range r.refs {
		for _, f := range files {
			set[nearest(filepath.Dir(f))] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// nearest returns the directory, or the first one above it that exists.
func nearest(dir string) string {
	for {
		info, err := os.Stat(dir)
		if err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// relevant tells whether a hint about path can matter. Directories above a layer, and those with files
// referred to, are full of other things.
func relevant(path string, dirs []string, refs map[string][]string) bool {
	base := filepath.Base(path)
	swap := strings.HasPrefix(base, "..") // the way orchestrators replace several files at once
	for _, dir := range dirs {
		rest, below := strings.CutPrefix(path, dir+"/")
		switch {
		case path == "" || path == dir || strings.HasPrefix(dir, path+"/"):
			return true
		case below && !strings.Contains(rest, "/"):
			if !ignored(base) || base == ".env" || swap {
				return true
			}
		case below:
			if swap || base == ".env" || !ignored(base) && slices.Contains([]string{".yaml", ".yml", ".d"}, filepath.Ext(base)) {
				return true
			}
		}
	}
	for _, files := range refs {
		for _, f := range files {
			if f == path || strings.HasPrefix(f, path+"/") || swap && strings.HasPrefix(f, filepath.Dir(path)+"/") {
				return true
			}
		}
	}
	return false
}

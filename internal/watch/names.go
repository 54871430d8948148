package watch

import (
	"cmp"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kind is what a directory entry is, with links followed as far as they stay inside.
type kind int

const (
	plain     kind = iota // anything that is none of the others: opening it will tell
	directory             // a directory, or a link to one inside
	null                  // a link to /dev/null: a mask
	outside               // a link that leads to the outside or to nothing
)

// node is an entry of a directory.
type node struct {
	name string
	kind kind
}

// listing is what one directory holds, as far as names go.
type listing struct {
	nodes []node
	// inside holds the names found in the directories that may belong to a stack: "blog", "blog.d",
	// "blog/blog.d".
	inside map[string][]string
	// broken holds those directories that could not be listed.
	broken map[string]string
}

// entry is a stack as its directory's names say, before a file is opened. Paths are relative to the directory.
type entry struct {
	name  string
	dir   string // "." or "blog"
	files []string
	env   []string
	// broken says which of its directories could not be listed, and why.
	broken, why string
}

// catalog is what the names of one directory mean.
type catalog struct {
	entries            map[string]entry
	masked, skip, hold map[string]bool
	problems           []Problem // with relative paths
}

var (
	stackName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	notInName = regexp.MustCompile(`[^a-z0-9_-]+`)

	mainNames     = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
	overrideNames = []string{
		"compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml",
	}
	incusNames = []string{"compose.incus.yaml", "compose.incus.yml"}
	yamlEnds   = []string{".yaml", ".yml"}

	// leftovers end the names of files that editors and package managers leave behind.
	leftovers = []string{
		"~", ".swp", ".swo", ".swx", ".tmp", ".bak", ".orig", ".rej",
		".rpmnew", ".rpmsave", ".rpmorig", ".pacnew", ".pacsave",
	}
)

// ignored tells whether the name is never that of a stack's file: hidden, a backup, a temporary file.
func ignored(name string) bool {
	if name == "" || name[0] == '.' || name[0] == '#' {
		return true
	}
	ends := func(end string) bool { return strings.HasSuffix(name, end) }
	return slices.ContainsFunc(leftovers, ends) || strings.Contains(name, ".dpkg-") || strings.Contains(name, ".ucf-")
}

// classify says which stacks a directory's names make up.
func classify(l listing) catalog {
	c := newClassifier(l)
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		c.node(node{name: name, kind: c.names[name]})
	}
	for name := range c.masked {
		delete(c.entries, name)
	}
	for _, extra := range slices.Sorted(maps.Keys(c.extras)) {
		c.orphan(extra)
	}
	return c.catalog
}

func newClassifier(l listing) *classifier {
	c := &classifier{
		listing: l, names: map[string]kind{}, extras: map[string]bool{},
		catalog: catalog{
			entries: map[string]entry{}, masked: map[string]bool{}, skip: map[string]bool{}, hold: map[string]bool{},
		},
	}
	for _, n := range l.nodes {
		c.names[n.name] = n.kind
	}
	return c
}

// classifier collects a catalog.
type classifier struct {
	listing
	catalog
	names  map[string]kind
	extras map[string]bool // the names of override files and drop-in directories
}

// node looks at one name; whatever a name does not make a stack's is left alone.
func (c *classifier) node(n node) {
	stem, isYAML := cutYAML(n.name)
	bare := strings.TrimSuffix(n.name, path.Ext(n.name))
	switch {
	case ignored(n.name):
	case path.Ext(n.name) == ".skip":
		c.skip[bare] = true
	case path.Ext(n.name) == ".hold":
		c.hold[bare] = true
	case n.kind == null:
		c.masked[stem] = true
	case n.kind == directory && path.Ext(n.name) == ".d":
		if len(yamls(c.inside[n.name])) > 0 {
			c.extras[n.name] = true
		}
	case n.kind == directory:
		c.folder(n.name)
	case isYAML && overrideOf(stem) != "":
		c.extras[n.name] = true
	case isYAML:
		c.flat(stem, n.name)
	case n.kind == outside && (stackName.MatchString(n.name) || path.Ext(n.name) == ".d"):
		c.problem(n.name, n.name, Refused, linkText)
	}
}

// flat takes NAME.yaml for a stack.
func (c *classifier) flat(name, file string) {
	if c.claim(name, path.Ext(file), file) {
		c.entries[name] = c.flatEntry(name, file)
	}
}

// flatEntry is the stack of a file with what stands beside it.
func (c *classifier) flatEntry(name, file string) entry {
	e := entry{name: name, dir: ".", files: []string{file}}
	for _, of := range []string{".override", ".incus"} {
		e.files = append(e.files, c.pick(name, "", c.here, suffixed(name+of))...)
	}
	c.dropIns(&e, name+".d")
	e.env = existing("", c.here, []string{".env", name + ".env"})
	return e
}

// folder takes NAME/compose.yaml for a stack; a directory without one is data.
func (c *classifier) folder(dir string) {
	why, broken := c.broken[dir]
	if broken && stackName.MatchString(dir) {
		c.entries[dir] = entry{name: dir, dir: dir, broken: dir, why: why}
		return
	}
	isMain := func(base string) bool { return slices.Contains(mainNames, base) }
	if slices.ContainsFunc(c.inside[dir], isMain) && c.claim(dir, "", dir) {
		c.entries[dir] = c.folderEntry(dir, dir)
	}
}

// folderEntry is the stack of a directory's compose.yaml with what stands beside it.
func (c *classifier) folderEntry(name, dir string) entry {
	inside := func(base string) bool { return slices.Contains(c.inside[dir], base) }
	e := entry{name: name, dir: dir}
	for _, candidates := range [][]string{mainNames, overrideNames, incusNames} {
		e.files = append(e.files, c.pick(name, dir, inside, candidates)...)
	}
	c.dropIns(&e, path.Join(dir, dir+".d"))
	c.dropIns(&e, dir+".d")
	e.env = existing(dir, inside, []string{".env"})
	return e
}

// claim takes the name for a file or directory, unless it is no name for a stack or taken already.
func (c *classifier) claim(name, end, file string) bool {
	if !stackName.MatchString(name) {
		c.problem(file, "", InvalidName, nameText(name, end))
		return false
	}
	other := c.entries[name]
	if len(other.files) == 0 {
		return true
	}
	used := other.files[0]
	// Sorted, "blog" comes before "blog.yaml": the flat file wins, whichever came first.
	if other.dir != "." && end != "" {
		c.problem(used, name, Conflict, conflictText(name, file))
		return true
	}
	c.problem(file, name, Conflict, conflictText(name, used))
	return false
}

// here tells whether the directory itself has a file of that name.
func (c *classifier) here(base string) bool {
	k, ok := c.names[base]
	return ok && k != null && k != directory
}

// pick returns the first candidate that exists, and reports the others that do.
func (c *classifier) pick(stack, dir string, exists func(string) bool, candidates []string) []string {
	found := existing(dir, exists, candidates)
	for _, other := range found[min(1, len(found)):] {
		c.problem(other, stack, Conflict, conflictText(stack, found[0]))
	}
	return found[:min(1, len(found))]
}

// dropIns adds the YAML files of a drop-in directory in lexical order.
func (c *classifier) dropIns(e *entry, dir string) {
	why, broken := c.broken[dir]
	if broken {
		e.broken, e.why = dir, why
	}
	for _, f := range yamls(c.inside[dir]) {
		e.files = append(e.files, path.Join(dir, f))
	}
}

// orphan reports an override or drop-in directory that belongs to no stack.
func (c *classifier) orphan(extra string) {
	stem, _ := cutYAML(extra)
	name := cmp.Or(overrideOf(stem), strings.TrimSuffix(extra, ".d"))
	e, ok := c.entries[name]
	if ok && (e.dir == "." || strings.HasSuffix(extra, ".d")) || c.masked[name] {
		return
	}
	if ok {
		c.problem(extra, name, Orphan, "is not used: move it to "+show(path.Join(name, "compose"+strings.TrimPrefix(extra, name))))
		return
	}
	c.problem(extra, "", Orphan, "overrides nothing: there is no "+show(name+".yaml")+" beside it; add that file, or remove this one")
}

func (c *classifier) problem(file, stack, condition, text string) {
	c.problems = append(c.problems, Problem{Path: file, Stack: stack, Condition: condition, Text: text})
}

// cutYAML removes the ending of a YAML file's name.
func cutYAML(name string) (stem string, ok bool) {
	for _, end := range yamlEnds {
		stem, ok = strings.CutSuffix(name, end)
		if ok {
			return stem, true
		}
	}
	return name, false
}

// overrideOf returns the stack an override's stem belongs to, or nothing.
func overrideOf(stem string) string {
	for _, end := range []string{".override", ".incus"} {
		name, ok := strings.CutSuffix(stem, end)
		if ok {
			return name
		}
	}
	return ""
}

func suffixed(stem string) []string { return []string{stem + yamlEnds[0], stem + yamlEnds[1]} }

// existing returns the names that exist, joined to dir.
func existing(dir string, exists func(string) bool, names []string) []string {
	var out []string
	for _, name := range names {
		if exists(name) {
			out = append(out, path.Join(dir, name))
		}
	}
	return out
}

// yamls returns the YAML files among the names, sorted.
func yamls(names []string) []string {
	var out []string
	for _, name := range names {
		_, ok := cutYAML(name)
		if ok && !ignored(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

const linkText = "is a link that leads out of this directory, or to nothing: put the file itself here, " +
	"or link with a relative path to one inside"

func conflictText(stack, used string) string {
	return "is not used: " + show(used) + " is the stack " + strconv.Quote(stack) + " already; remove or rename one of them"
}

// nameText says what is wrong with a stack's name and proposes one; end is the file's ending.
func nameText(name, end string) string {
	text := "the name " + strconv.Quote(name) + " cannot be a stack's: use a-z, 0-9, \"_\" and \"-\", beginning with a letter or a digit"
	better := normal(name)
	if better != "" {
		text += "; rename it to " + better + end
	}
	return text
}

// normal makes a stack's name of any name; empty when nothing is left of it.
func normal(name string) string {
	return strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "_-")
}

// show returns a path as it is, or quoted when it holds anything that does not print.
func show(s string) string {
	quoted := strconv.Quote(s)
	if quoted == `"`+s+`"` {
		return s
	}
	return quoted
}

package watch

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity tells a directory from another one put in its place.
type identity struct {
	dev, ino uint64
	// born is the creation time, which tells a re-created directory that was given the same inode; 0 where
	// the file system does not keep it.
	born int64
}

// layer is one directory as a scan saw it.
type layer struct {
	dir                string
	absent             bool
	err                *Problem // why it cannot be used
	id                 identity
	found              map[string]found
	masked, skip, hold map[string]bool
	problems           []Problem
	remote             bool     // its file system does not notify about other machines' changes
	dirs               []string // absolute paths of the directories in it that matter
}

// opened is a layer whose names are known and whose files are not yet read.
type opened struct {
	layer
	root    *os.Root
	trust   trust
	known   map[string]bool // the stacks there are, by name
	entries map[string]entry
}

// openLayer lists a directory.
func openLayer(dir string, known map[string]bool) *opened {
	o := &opened{layer: layer{dir: dir}, known: known}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		o.absent = true
		return o
	}
	if err != nil {
		o.err = unavailable(dir, err)
		return o
	}
	o.root = root
	l, err := o.list()
	if err != nil {
		o.err = unavailable(dir, err)
	}
	if o.err != nil {
		return o
	}
	c := classify(l)
	o.entries, o.masked, o.skip, o.hold = c.entries, c.masked, c.skip, c.hold
	for _, p := range c.problems {
		p.Path = filepath.Join(dir, p.Path)
		o.problems = append(o.problems, p)
	}
	return o
}

func unavailable(dir string, err error) *Problem {
	text := err.Error()
	errno, ok := errors.AsType[syscall.Errno](err)
	if ok {
		text = errno.Error()
	}
	text = "cannot be read (" + text + "): its stacks keep running as they are; make it a readable directory again"
	return &Problem{Path: dir, Condition: SourceUnavailable, Text: text}
}

// list examines the directory itself and takes the names in it.
func (o *opened) list() (listing, error) {
	l := listing{inside: map[string][]string{}, broken: map[string]string{}}
	f, err := o.root.Open(".")
	if err != nil {
		return l, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return l, err
	}
	err = o.identify(f)
	if err != nil {
		return l, err
	}
	o.trust = trustIn(sys(info).Uid)
	o.err = o.trust.judge(o.dir, sys(info))
	if o.err == nil {
		o.err = o.trust.chain(o.dir)
	}
	if o.err != nil {
		return l, nil
	}
	items, err := f.ReadDir(-1)
	if err != nil {
		return l, err
	}
	for _, item := range items {
		n := node{name: item.Name(), kind: o.kind(item)}
		l.nodes = append(l.nodes, n)
		if n.kind == directory && !ignored(n.name) {
			o.look(n.name, l)
		}
	}
	return l, nil
}

// identify fills in what the open directory is and what kind of file system it is on.
func (o *opened) identify(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var st unix.Statx_t
	var fsys unix.Statfs_t
	var statErr, fsErr error
	err = conn.Control(func(fd uintptr) {
		statErr = unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
		fsErr = unix.Fstatfs(int(fd), &fsys)
	})
	err = errors.Join(err, statErr, fsErr)
	if err != nil {
		return err
	}
	o.id = identity{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		o.id.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	o.remote = slices.Contains(remoteTypes, uint32(fsys.Type))
	return nil
}

// remoteTypes are the file systems that other machines or processes change without a notification here.
var remoteTypes = []uint32{
	unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.V9FS_MAGIC,
	unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC,
}

// kind follows a link as far as it stays inside.
func (o *opened) kind(item fs.DirEntry) kind {
	if item.IsDir() {
		return directory
	}
	if item.Type() != fs.ModeSymlink {
		return plain
	}
	target, err := o.root.Readlink(item.Name())
	if err == nil && target == os.DevNull {
		return null
	}
	info, err := o.root.Stat(item.Name())
	switch {
	case err != nil:
		return outside
	case info.IsDir():
		return directory
	}
	return plain
}

// look takes the names in one directory of the layer, as far as they matter: all of a drop-in directory, and
// in others, which may hold anything, only those that make it a stack.
func (o *opened) look(dir string, l listing) {
	if path.Ext(dir) == ".d" {
		o.listDropIns(dir, l)
		return
	}
	o.dirs = append(o.dirs, filepath.Join(o.dir, dir))
	for _, name := range slices.Concat(mainNames, overrideNames, incusNames, []string{".env", path.Base(dir) + ".d"}) {
		info, err := o.root.Lstat(path.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && o.foreign(dir, err):
			return
		case err != nil:
			l.broken[dir] = plainError(err)
			return
		case path.Ext(name) == ".d" && info.IsDir():
			o.listDropIns(path.Join(dir, name), l)
		default:
			l.inside[dir] = append(l.inside[dir], name)
		}
	}
}

// foreign tells whether a directory that is closed to us is the data of an application (a bind mount beside its stack's
// file): somebody's whose files would not be believed anyway. What has been a stack never is.
func (o *opened) foreign(dir string, err error) bool {
	info, serr := o.root.Stat(dir)

	return errors.Is(err, fs.ErrPermission) && serr == nil && !o.known[dir] && o.trust.judge(filepath.Join(o.dir, dir), sys(info)) != nil
}

func (o *opened) listDropIns(dir string, l listing) {
	o.dirs = append(o.dirs, filepath.Join(o.dir, dir))
	f, err := o.root.Open(dir)
	if err != nil {
		l.broken[dir] = plainError(err)
		return
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		l.broken[dir] = plainError(err)
		return
	}
	l.inside[dir] = names
}

func plainError(err error) string {
	errno, ok := errors.AsType[syscall.Errno](err)
	if ok {
		return errno.Error()
	}
	return "it leads out of the stack directory"
}

// read reads the files of the wanted stacks.
func (o *opened) read(wanted map[string]bool, refs map[string][]string) {
	o.found = map[string]found{}
	if o.root == nil {
		return
	}
	s := rooted(o.root, o.dir, o.trust)
	for name, e := range o.entries {
		if wanted[name] {
			o.found[name] = s.stack(e, refs[name])
		}
	}
}

func (o *opened) close() {
	if o.root != nil {
		o.root.Close()
	}
}

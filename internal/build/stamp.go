package build

import (
	"fmt"
	"io/fs"
	"syscall"
)

// stamp is what changes when a file does: size, mode, inode, and the times of content and of inode.
func stamp(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Sprint(info.Size(), info.Mode(), info.ModTime().UnixNano())
	}

	return fmt.Sprint(info.Size(), info.Mode(), st.Ino, st.Mtim, st.Ctim)
}

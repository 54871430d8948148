package hostdir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxPath is PATH_MAX of Linux.
const maxPath = 4096

// mode is that of a directory Docker makes for a bind mount.
const mode = 0o755

// apart are the trees where a directory is no directory, or is gone with the next boot.
var apart = []string{"/proc", "/sys", "/dev"}

// Serve reads one absolute path, ended by a line break, makes the directory and its missing parents, and answers "ok"
// or why not. Something that exists, whatever it is, is left as it is. The error is that of the conversation.
func Serve(in io.Reader, out io.Writer) error {
	line, err := bufio.NewReader(io.LimitReader(in, maxPath)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read a path: %w", err)
	}

	answer := "ok"
	path, whole := strings.CutSuffix(line, "\n")
	if whole {
		err = create(path)
	} else {
		err = errors.New("the path does not end, or is too long")
	}

	if err != nil {
		answer = err.Error()
	}

	_, err = io.WriteString(out, answer+"\n")
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}

	return nil
}

// create makes a directory unless there is something of that name.
func create(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%q is not a clean absolute path", path)
	}

	for _, tree := range apart {
		if path == tree || strings.HasPrefix(path, tree+"/") {
			return fmt.Errorf("%s is below %s, where no directories are made", path, tree)
		}
	}

	_, err := os.Stat(path)
	if err == nil {
		return nil
	}

	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	return os.MkdirAll(path, mode)
}

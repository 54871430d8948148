// Command ic-launch sets what neither Incus's keys nor liblxc's configuration can hold, and becomes the program of a
// service: variables with line breaks, and with them the umask. It is mounted into the instances that need it, and in
// front of the commands that are run in them (plan.Launch).
//
//	launch                 becomes the service's program
//	launch COMMAND...      becomes COMMAND, with the service's environment
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The exit codes of a shell whose command cannot be run.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

func main() {
	code, err := become(plan.LaunchFile, os.Args[1:])
	fmt.Fprintf(os.Stderr, "ic-launch: %v\n", err)
	os.Exit(code)
}

// become does what the file says and becomes the command, or the program of the file where there is none. It returns
// only when that is not possible.
func become(file string, command []string) (code int, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return exitNotExecutable, err
	}

	l, err := plan.ReadLaunch(content)
	if err != nil {
		return exitNotExecutable, fmt.Errorf("read %s: %w", file, err)
	}

	for name, value := range l.Env {
		_, set := os.LookupEnv(name)
		if set && len(command) > 0 {
			continue // who runs the command has said otherwise
		}

		err = os.Setenv(name, value)
		if err != nil {
			return exitNotExecutable, fmt.Errorf("set %s: %w", name, err)
		}
	}

	if len(command) == 0 {
		command = l.Argv
		err = umask(l.Umask)
		if err != nil {
			return exitNotExecutable, err
		}
	}

	if len(command) == 0 {
		return exitNotFound, errors.New("there is no program to become")
	}

	return execute(command)
}

func umask(digits string) error {
	if digits == "" {
		return nil
	}

	n, err := strconv.ParseUint(digits, 8, 9)
	if err != nil {
		return fmt.Errorf("the umask: %w", err)
	}

	syscall.Umask(int(n))

	return nil
}

// execute becomes a command as execvp(3) does: by PATH, and with /bin/sh where it is a script that does not say by what.
func execute(command []string) (code int, err error) {
	path, err := exec.LookPath(command[0])
	switch {
	case errors.Is(err, exec.ErrDot): // PATH has "."
	case errors.Is(err, fs.ErrPermission):
		return exitNotExecutable, err
	case err != nil:
		return exitNotFound, err
	}

	err = syscall.Exec(path, command, os.Environ())
	if errors.Is(err, syscall.ENOEXEC) {
		err = syscall.Exec("/bin/sh", append([]string{"sh", path}, command[1:]...), os.Environ())
	}

	if strings.Contains(path, "/") && errors.Is(err, fs.ErrNotExist) {
		return exitNotFound, fmt.Errorf("%s: %w, or what it is to be run by does not exist", path, err)
	}

	return exitNotExecutable, fmt.Errorf("%s: %w", path, err)
}

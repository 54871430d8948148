package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The launcher is a small static program of the package, mounted into the instances that need it: it sets what neither
// Incus's keys nor liblxc's configuration can hold, and becomes the program. It needs no shell in the image, and shells
// drop variables that are not names of theirs.
const (
	// LauncherSource is where the host has it, LauncherPath where an instance does.
	LauncherSource = "/usr/lib/ic-agent/launch"
	LauncherPath   = "/.ic-agent/launch"
	// LaunchFile is what it is to do, a Launch: on a tmpfs of the host, and readable for the service's user only.
	LaunchFile = "/.ic-agent/environment"
	// KeyLauncher, on an instance, is in front of every command that is to see the service's whole environment.
	KeyLauncher = "user.ic-agent.launcher"
)

// Launch is what the launcher does before it becomes the program.
type Launch struct {
	// Env are the variables that are added.
	Env map[string]string
	// Umask is in octal digits; empty leaves it.
	Umask string
	// Argv is the program; a command given to the launcher stands in its place.
	Argv []string
}

// The kinds of the records of a Launch.
const (
	launchEnv   = 'e'
	launchUmask = 'u'
	launchArg   = 'a'
)

// Bytes writes a Launch down: records that begin with their kind and end with a zero byte, which no part of it can hold.
func (l Launch) Bytes() []byte {
	var b []byte
	add := func(kind byte, text string) { b = append(append(append(b, kind), text...), 0) }
	for _, name := range slices.Sorted(maps.Keys(l.Env)) {
		add(launchEnv, name+"="+l.Env[name])
	}

	if l.Umask != "" {
		add(launchUmask, l.Umask)
	}

	for _, word := range l.Argv {
		add(launchArg, word)
	}

	return b
}

// ReadLaunch reads what Bytes wrote.
func ReadLaunch(b []byte) (Launch, error) {
	l := Launch{Env: map[string]string{}}
	for rest := string(b); rest != ""; {
		record, after, ended := strings.Cut(rest, "\x00")
		if !ended || record == "" {
			return Launch{}, errors.New("it is cut off")
		}

		rest = after
		text := record[1:]
		switch record[0] {
		case launchEnv:
			name, value, ok := strings.Cut(text, "=")
			if !ok {
				return Launch{}, errors.New("a variable has no value")
			}

			l.Env[name] = value
		case launchUmask:
			l.Umask = text
		case launchArg:
			l.Argv = append(l.Argv, text)
		default:
			return Launch{}, fmt.Errorf("a record of the kind %q is not known", record[0])
		}
	}

	return l, nil
}

// launch is how the service's process is started from an image, as the user uid. Nobody else reads the launch file,
// unless a hook is run by somebody else.
func (s Service) launch(img Image, uid uint32) (launch, error) {
	env := maps.Clone(img.Env)
	if env == nil {
		env = map[string]string{}
	}

	maps.Copy(env, s.Environment)
	argv := Argv(s.Process, img)
	if len(argv) == 0 {
		return launch{}, fmt.Errorf("the image %s has neither ENTRYPOINT nor CMD: set command", s.Image.Ref)
	}

	l, err := launchOf(argv, env, s.Sandbox.Umask)
	if err != nil || l.placed == nil {
		return l, err
	}

	l.placed.At = s.At
	for _, h := range slices.Concat(s.PostStart, s.PreStop) {
		other, _, err := ResolveUser(h.User, img)
		if h.User != "" && err == nil && other != 0 && other != uid {
			l.placed.Mode = 0o444
		}
	}

	return l, nil
}

// files are the configs and secrets of a service, and its launch file.
func (l launch) files(s Service) []File {
	if l.placed == nil {
		return s.Files
	}

	return append(slices.Clone(s.Files), *l.placed)
}

// before puts the launcher in front of a command beside the program, where it is needed.
func (l launch) before(argv []string) []string {
	if !l.beside {
		return argv
	}

	return append([]string{LauncherPath}, argv...)
}

// launcher mounts the launcher, and says when it is needed for what is run beside the program.
func (d *DesiredInstance) launcher(l launch) error {
	if l.placed == nil {
		return nil
	}

	if d.Image.Native {
		return errors.New("the image " + d.Image.Ref + " is a whole system, whose init runs: it can have no umask, and no variable with line breaks")
	}

	if l.beside {
		d.Config[KeyLauncher] = LauncherPath
	}

	d.Devices["launch"] = Device{"type": "disk", "source": LauncherSource, "path": LauncherPath, "readonly": "true"}
	d.Targets = append(d.Targets, Target{Path: LauncherPath})

	return nil
}

// mark is a comment for liblxc that makes a new content of the launch file a reason to restart.
func (l launch) mark() string {
	if l.placed == nil {
		return ""
	}

	return "# environment " + shortHash(string(l.placed.Content)) + "\n"
}

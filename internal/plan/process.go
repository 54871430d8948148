package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Argv is what a container runs: Docker's table of ENTRYPOINT and CMD. A service's entrypoint replaces the
// image's and drops its CMD; a command alone replaces CMD and keeps ENTRYPOINT.
func Argv(p Process, img Image) []string {
	entry, cmd := img.Entrypoint, img.Cmd
	if p.Entrypoint != nil {
		entry, cmd = p.Entrypoint, nil
	}

	if p.Command != nil {
		cmd = p.Command
	}

	return slices.Concat(entry, cmd)
}

// ResolveUser turns a USER or "user:" value ("uid", "uid:gid", "name", "name:group", in any mixture) into
// numbers with the image's passwd and group files. A user without a group has the group of its passwd line,
// a number that has none the group 0, as Docker does. The empty value means the image's own.
func ResolveUser(user string, img Image) (uid, gid uint32, err error) {
	if user == "" {
		return img.UID, img.GID, nil
	}

	name, group, hasGroup := strings.Cut(user, ":")
	entry, known := img.Users[name]

	n, err := strconv.ParseUint(name, 10, 32)
	switch {
	case err == nil:
		uid = uint32(n)
		gid = byUID(img.Users, uid)
	case known:
		uid, gid = entry.UID, entry.GID
	default:
		return 0, 0, fmt.Errorf("the image %s has no user %q in its /etc/passwd: write the number instead", img.Ref, name)
	}

	if !hasGroup || group == "" {
		return uid, gid, nil
	}

	n, err = strconv.ParseUint(group, 10, 32)
	if err == nil {
		return uid, uint32(n), nil
	}

	gid, known = img.Groups[group]
	if !known {
		return 0, 0, fmt.Errorf("the image %s has no group %q in its /etc/group: write the number instead", img.Ref, group)
	}

	return uid, gid, nil
}

// NeedsNames reports whether the image's passwd and group files are needed to make numbers of user: for a name,
// and for a number without a group, whose group is that of its passwd line. Root's is 0 everywhere.
func NeedsNames(user string) bool {
	name, group, hasGroup := strings.Cut(user, ":")
	for _, part := range []string{name, group} {
		_, err := strconv.ParseUint(part, 10, 32)
		if part != "" && err != nil {
			return true
		}
	}

	return !hasGroup && name != "" && name != "0"
}

// NamesGroups reports whether the image's group file is needed to make numbers of further groups.
func NamesGroups(groups []string) bool {
	return slices.ContainsFunc(groups, func(g string) bool {
		_, err := strconv.ParseUint(g, 10, 32)
		return err != nil
	})
}

func byUID(users map[string]UserEntry, uid uint32) uint32 {
	for _, name := range slices.Sorted(maps.Keys(users)) {
		if users[name].UID == uid {
			return users[name].GID
		}
	}

	return 0
}

// launch is how a process is handed to liblxc: its words, and what the launcher reads where liblxc's and Incus's
// configuration cannot hold everything.
type launch struct {
	argv   []string
	placed *File
	// env is the environment that fits into keys; the rest is in placed.
	env map[string]string
	// beside tells that commands beside the program need the launcher, too.
	beside bool
}

// launchOf decides between words in the configuration and the launcher. liblxc splits lxc.init.cmd into words that are
// quoted as a whole, knows no escapes, and strips a pair of quotes around the whole line; Incus refuses line breaks in
// environment.* keys; neither knows a umask.
func launchOf(argv []string, env map[string]string, umask string) (launch, error) {
	inline, broken := make(map[string]string, len(env)), map[string]string{}
	for k, v := range env {
		if !strings.ContainsAny(v, "\n\r") {
			inline[k] = v
			continue
		}

		if k == "" || strings.ContainsAny(k+v, "\x00") || strings.Contains(k, "=") {
			return launch{}, fmt.Errorf("the environment variable %q has a name or value that no process can have: rename it", k)
		}

		broken[k] = v
	}

	_, fits := initCmd(argv)
	if fits && len(broken) == 0 && umask == "" {
		return launch{argv: argv, env: inline}, nil
	}

	content := Launch{Env: broken, Umask: umask, Argv: argv}.Bytes()

	return launch{
		argv: []string{LauncherPath}, env: inline, beside: len(broken) > 0,
		placed: &File{Name: "environment", Target: LaunchFile, Content: content, UID: -1, GID: -1, Mode: 0o400},
	}, nil
}

// initCmd writes argv in liblxc's quoting; ok is false where it cannot be written.
func initCmd(argv []string) (line string, ok bool) {
	words := make([]string, len(argv))
	for i, a := range argv {
		w, fits := lxcWord(a)
		if !fits {
			return "", false
		}

		words[i] = w
	}

	line = strings.Join(words, " ")
	if len(line) > 1 && (line[0] == '\'' || line[0] == '"') && line[len(line)-1] == line[0] {
		return "", false
	}

	return line, true
}

func lxcWord(a string) (string, bool) {
	const space = " \t\v\f"
	switch {
	case a == "" || strings.ContainsAny(a, "\n\r\x00"):
		return "", false
	case !strings.ContainsAny(a, space) && a[0] != '\'' && a[0] != '"':
		return a, true
	case !strings.Contains(a, "'"):
		return "'" + a + "'", true
	case !strings.Contains(a, `"`):
		return `"` + a + `"`, true
	}

	return "", false
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// signals are the names signal(7) lists for Linux; liblxc takes the same.
var signals = []string{
	"SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
	"SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
	"SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
}

// stopSignal is the signal to stop a service with, as liblxc spells it: the service's, else the image's, else
// SIGTERM.
func stopSignal(p Process, img Image) (string, error) {
	s := p.StopSignal
	if s == "" {
		s = img.StopSignal
	}

	if s == "" {
		return "SIGTERM", nil
	}

	n, err := strconv.Atoi(s)
	if err == nil && n >= 1 && n <= 64 {
		return s, nil
	}

	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}

	if slices.Contains(signals, name) || isRealtime(name) {
		return name, nil
	}

	return "", fmt.Errorf("unknown stop signal %q: use a name of signal(7) such as SIGQUIT, or a number from 1 to 64", s)
}

// isRealtime knows SIGRTMIN+3 and SIGRTMAX-2, the forms systemd images use.
func isRealtime(name string) bool {
	rest, ok := strings.CutPrefix(name, "SIGRTMIN+")
	if !ok {
		rest, ok = strings.CutPrefix(name, "SIGRTMAX-")
	}

	n, err := strconv.Atoi(rest)

	return ok && err == nil && n >= 0 && n <= 30
}

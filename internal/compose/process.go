package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func (s *service) image() {
	s.out.Image.Ref = s.in.Image
	s.out.Image.At = s.place("image")
	switch {
	case s.in.Image != "":
	case s.in.Build != nil:
		s.out.Image.Ref = s.t.project.Name + "-" + s.in.Name
		s.out.Image.At = s.place("build")
	case s.in.Provider != nil:
		s.refuse("provider", "there are no providers here", "run it as a service with an image")
	case s.t.index.has(s.key + ".image"):
		s.refuse("image", "is empty", `write "image: name:tag"`)
	default:
		s.t.refuse(s.key, "the service has no image", `add "image: name:tag"`)
	}
}

func (s *service) platform() { s.out.Image.Platform = s.in.Platform }

const pullHint = "write missing, always, never, build, daily, weekly or every_12h"

func (s *service) pullPolicy() {
	policy, every, err := s.in.GetPullPolicy()
	if err != nil {
		s.refuse("pull_policy", fmt.Sprintf("%q is not a pull policy", s.in.PullPolicy), pullHint)
		return
	}

	switch policy {
	case "missing", "if_not_present":
		// Said in so many words, it has the registry asked before anything is built.
		if s.in.Build != nil && s.in.PullPolicy != "" {
			s.out.Image.Pull = "missing"
		}
	case "always", "never":
		s.out.Image.Pull = policy
	case "build":
		s.out.Image.Pull = policy
		if s.in.Build == nil {
			s.refuse("pull_policy", "build needs a build section", `add "build: ."`)
		}
	default:
		s.out.Image.Every = every
		if every <= 0 {
			s.refuse("pull_policy", fmt.Sprintf("%q says no time", s.in.PullPolicy), pullHint)
		}
	}
}

func (s *service) containerName() {
	name := s.in.ContainerName
	if name == "" {
		return
	}

	s.out.ContainerName = Slug(name)
	if s.out.ContainerName != name {
		s.warn("container_name", fmt.Sprintf("the instance is called %s, as Incus accepts letters, digits and hyphens only; other services find it by both names", s.out.ContainerName))
	}

	if s.in.GetScale() > 1 {
		s.refuse("container_name", fmt.Sprintf("%d replicas cannot all be called %s", s.in.GetScale(), name), "remove container_name, or run one replica")
	}
}

const maxReplicas = 1000

func (s *service) replicas() {
	s.out.Replicas = s.in.GetScale()
	key := "deploy.replicas"
	if s.in.Scale != nil {
		key = "scale"
	}

	if s.out.Replicas < 0 || s.out.Replicas > maxReplicas {
		s.refuse(key, fmt.Sprintf("%d replicas", s.out.Replicas), fmt.Sprintf("write a number from 0 to %d", maxReplicas))
	}

	if s.in.Scale != nil && s.in.Deploy != nil && s.in.Deploy.Replicas != nil && *s.in.Scale != *s.in.Deploy.Replicas {
		s.refuse("scale", "scale and deploy.replicas differ", "keep one of the two")
	}
}

func (s *service) command() { s.out.Process.Command = s.in.Command }

func (s *service) entrypoint() { s.out.Process.Entrypoint = s.in.Entrypoint }

func (s *service) workingDir() {
	s.out.Process.Cwd = s.in.WorkingDir
	if s.in.WorkingDir != "" && !strings.HasPrefix(s.in.WorkingDir, "/") {
		s.refuse("working_dir", fmt.Sprintf("%q is not an absolute path", s.in.WorkingDir), `begin it with "/"`)
	}
}

func (s *service) user() {
	s.out.Process.User = s.in.User
	if strings.Count(s.in.User, ":") > 1 || strings.HasPrefix(s.in.User, ":") || strings.ContainsAny(s.in.User, " \t\n") {
		s.refuse("user", fmt.Sprintf("%q is not a user", s.in.User), `write "uid", "uid:gid", "name" or "name:group"`)
	}
}

func (s *service) initProcess() { s.out.Process.Init = s.in.Init != nil && *s.in.Init }

// signals are the names Linux has for signals 1 to 31 (signal(7)), without "SIG".
var signals = strings.Fields(`HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN
	TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS`)

func (s *service) stopSignal() {
	sig := s.in.StopSignal
	s.out.Process.StopSignal = sig
	if sig == "" {
		return
	}

	n, err := strconv.Atoi(sig)
	if err == nil && n >= 1 && n <= 64 {
		return
	}

	word := strings.TrimPrefix(strings.ToUpper(sig), "SIG")
	realtime := strings.HasPrefix(word, "RTMIN") || strings.HasPrefix(word, "RTMAX")
	if err == nil || !realtime && !slices.Contains(signals, word) {
		s.refuse("stop_signal", fmt.Sprintf("%q is not a signal", sig), "write SIGTERM, SIGINT, SIGQUIT …")
		return
	}

	s.out.Process.StopSignal = "SIG" + word
}

func (s *service) stopGrace() {
	if s.in.StopGracePeriod == nil {
		return
	}

	d := time.Duration(*s.in.StopGracePeriod)
	s.out.Process.StopGrace = d
	switch {
	case d < 0:
		s.refuse("stop_grace_period", "is negative", `write "10s"`)
	case d == 0:
		// The zero value means the default of 10 s.
		s.out.Process.StopGrace = time.Nanosecond
	}
}

// environment leaves out what has no value.
func (s *service) environment() {
	for name, value := range s.in.Environment {
		key := "environment." + name
		switch {
		case value == nil:
			s.t.bare.note(name, s.t.listed(s.key+".environment", name), s.key+"."+key)
			continue
		case name == "" || strings.ContainsAny(name, "=\x00"):
			s.refuse("environment", fmt.Sprintf("%q is not the name of a variable", name), "write NAME=value")
		case strings.ContainsRune(*value, 0):
			s.t.refuseAt(s.t.listed(s.key+".environment", name), s.key+"."+key, "the value has a zero byte, which no environment can hold", "remove it")
		}

		if s.out.Environment == nil {
			s.out.Environment = map[string]string{}
		}

		s.out.Environment[name] = *value
	}
}

// listed is the place of NAME in a mapping, or in a list of NAME=value.
func (t *translation) listed(key, name string) plan.Place {
	if t.index.has(join(key, name)) {
		return t.index.place(join(key, name))
	}

	return t.index.item(key, func(v any) bool {
		word, _, _ := strings.Cut(asString(v), "=")
		return word == name
	})
}

func (s *service) hostname() {
	s.out.Hostname = s.in.Hostname
	if len(s.in.Hostname) > 64 || strings.ContainsAny(s.in.Hostname, " \t\n/:") {
		s.refuse("hostname", fmt.Sprintf("%q is not a host name", clip(s.in.Hostname)), "use letters, digits, hyphens and dots, 64 at most")
	}
}

func (s *service) labels() {
	for k, v := range s.in.Labels {
		s.out.Config["user.label."+k] = v
	}
}

func (s *service) privileged() {
	if s.in.Privileged {
		s.out.Config["security.privileged"] = "true"
	}
}

func (s *service) dependsOn() {
	for name, d := range s.in.DependsOn {
		s.out.DependsOn = append(s.out.DependsOn, plan.Dependency{Service: name, Condition: d.Condition, Optional: !d.Required, Restart: d.Restart})
	}

	slices.SortFunc(s.out.DependsOn, func(a, b plan.Dependency) int { return strings.Compare(a.Service, b.Service) })
}

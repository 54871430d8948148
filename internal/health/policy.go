package health

import (
	"strconv"
	"strings"
	"time"
)

// Mode is the word of a restart policy (compose-spec 05-services.md, "restart").
type Mode string

// The modes.
const (
	ModeNo            Mode = "no"
	ModeAlways        Mode = "always"
	ModeUnlessStopped Mode = "unless-stopped"
	ModeOnFailure     Mode = "on-failure"
)

// Policy says when an instance that ended is started again. The zero value is never.
type Policy struct {
	// Mode is the policy; empty means no.
	Mode Mode
	// Max is how many restarts there are before giving up; 0 means any number.
	Max int
	// Delay is before each restart, instead of one that grows; 0 means the one that grows.
	Delay time.Duration
	// Window is how long an instance must have run for a restart to count as a success, which begins the
	// count anew; 0 means that only a start by somebody else does.
	Window time.Duration
}

// The delay that grows, and the run that sets it back (moby's restartmanager).
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 60 * time.Second
	goodRun    = 10 * time.Second
	jitterPart = 0.1
)

// String is the policy as a compose file has it: "on-failure:3".
func (p Policy) String() string {
	if p.Mode == ModeOnFailure && p.Max > 0 {
		return string(p.Mode) + ":" + strconv.Itoa(p.Max)
	}

	return string(p.Mode)
}

// Acts tells whether the policy ever restarts anything.
func (p Policy) Acts() bool { return p.Mode != "" && p.Mode != ModeNo }

// after is the delay of the restart that follows step others without a good run between; random is from 0 to 1.
func (p Policy) after(step int, random float64) time.Duration {
	d := p.Delay
	if d == 0 {
		d = lastDelay
		if step < 16 {
			d = min(firstDelay<<step, lastDelay)
		}
	}

	return d + time.Duration(float64(d)*jitterPart*(2*random-1))
}

// write adds the keys of a policy.
func (p Policy) write(c map[string]string) {
	if p.Mode == "" {
		return
	}

	if p.Max > 0 && p.Mode != ModeOnFailure {
		c[KeyRestartAttempts] = strconv.Itoa(p.Max)
	}

	c[KeyRestart] = p.String()
}

func (r *reader) policy() Policy {
	word, limit, limited := strings.Cut(r.config[KeyRestart], ":")
	p := Policy{Mode: Mode(word)}
	switch {
	case p.Mode == "", p.Mode == ModeNo, p.Mode == ModeAlways, p.Mode == ModeUnlessStopped, p.Mode == ModeOnFailure:
		if limited && p.Mode != ModeOnFailure {
			r.wrong(KeyRestart, "only on-failure takes a number")
		}
	default:
		r.wrong(KeyRestart, "write no, always, unless-stopped, on-failure or on-failure:3")
		return Policy{}
	}

	if limited && p.Mode == ModeOnFailure {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 {
			r.wrong(KeyRestart, "write a number of at least 1 behind on-failure:")
			return Policy{Mode: ModeOnFailure}
		}

		p.Max = n
	}

	if p.Max == 0 {
		p.Max = r.count(KeyRestartAttempts, 0)
	}

	p.Delay = r.duration(KeyRestartDelay, time.Millisecond, 0)
	p.Window = r.duration(KeyRestartWindow, time.Millisecond, 0)

	return p
}

package health

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The keys of the protocol of lxc/incus-compose. Only KeyStatus and KeyDetail are written here.
const (
	keyPrefix        = "user.healthcheck."
	KeyEnabled       = keyPrefix + "enabled"
	KeyIgnore        = keyPrefix + "ignore"
	KeyStopped       = keyPrefix + "stopped"
	KeyTest          = keyPrefix + "test"
	KeyInterval      = keyPrefix + "interval"
	KeyTimeout       = keyPrefix + "timeout"
	KeyStartPeriod   = keyPrefix + "start_period"
	KeyStartInterval = keyPrefix + "start_interval"
	KeyRetries       = keyPrefix + "retries"
	KeyRestart       = keyPrefix + "restart"
	// KeyStatus holds one of the Status words.
	KeyStatus = plan.KeyHealthStatus
	// KeyDetail holds a Detail as JSON.
	KeyDetail = keyPrefix + "detail"
	// KeyDaemon marks the instance that a health daemon of lxc/incus-compose runs in, KeyScope on a project
	// says which of them watches it: "global" or "project".
	KeyDaemon = keyPrefix + "daemon"
	KeyScope  = keyPrefix + "scope"
)

// The keys of our own, beyond that protocol.
const (
	// KeyProbe holds a Probe as JSON: a check made from the host instead of a command in the instance; or the
	// word "auto": the host makes what the command would, where Recognise knows it.
	KeyProbe = "user.ic-agent.probe"
	// KeyOnUnhealthy is "restart", "none", "stop" or "notify".
	KeyOnUnhealthy = "user.ic-agent.on-unhealthy"
	// KeyEarly is "true" for a first probe right after the start instead of one interval later.
	KeyEarly = "user.ic-agent.probe-early"
	// KeySuccesses is how many probes in a row have to pass before an unhealthy instance is healthy again.
	KeySuccesses = "user.ic-agent.probe-successes"
	// KeyStretch is how many times longer, at most 4, the interval of a check that has passed for long may be while
	// the host is starved.
	KeyStretch = "user.ic-agent.probe-stretch"
	// KeyRestartDelay, KeyRestartAttempts and KeyRestartWindow are deploy.restart_policy's delay,
	// max_attempts and window (compose-spec deploy.md).
	KeyRestartDelay    = "user.ic-agent.restart-delay"
	KeyRestartAttempts = "user.ic-agent.restart-attempts"
	KeyRestartWindow   = "user.ic-agent.restart-window"
)

// The defaults of the compose specification, and the bounds of what is accepted.
const (
	DefaultInterval      = 30 * time.Second
	DefaultTimeout       = 30 * time.Second
	DefaultStartInterval = 5 * time.Second
	DefaultRetries       = 3
	minInterval          = 100 * time.Millisecond
	maxDuration          = 24 * time.Hour
	maxStretch           = 4
)

// Spec is what the keys of an instance ask for.
type Spec struct {
	// Test is a command to run in the instance: "CMD" and its words, or "CMD-SHELL" and lines for /bin/sh;
	// empty means none.
	Test []string
	// Probe is made from the host instead of Test; nil means none.
	Probe *Probe
	// Auto asks for a Shortcut: a probe from the host that judges as Test does, and whose failure Test has to
	// confirm. A nil Shortcut means that none is known.
	Auto     bool
	Shortcut *Probe
	// Interval is from the end of a probe to the start of the next, Timeout bounds one.
	Interval, Timeout time.Duration
	// StartPeriod is how long after the start of the instance failures do not count, StartInterval is the
	// Interval meanwhile; a zero StartPeriod means none.
	StartPeriod, StartInterval time.Duration
	// Retries is how many failures in a row make the instance unhealthy, Successes how many passes in a row
	// make it healthy again.
	Retries, Successes int
	// Stretch is by what the Interval of a check that has passed for long is multiplied while the host is starved.
	Stretch int
	// Early asks for the first probe right after the start.
	Early bool
	// Restart says what happens when the instance ends.
	Restart Policy
	// OnUnhealthy says what happens when it is unhealthy.
	OnUnhealthy Reaction
}

// Reaction is what is done about an unhealthy instance.
type Reaction string

// The reactions. React to nothing is what Docker does; restarting is what lxc/incus-compose does where there is
// a restart policy, and the default there.
const (
	ReactRestart Reaction = "restart"
	ReactNone    Reaction = "none"
	ReactStop    Reaction = "stop"
	ReactNotify  Reaction = "notify"
)

// Checked tells whether there is anything to probe.
func (s Spec) Checked() bool { return len(s.Test) > 0 || s.Probe != nil }

// SameCheck tells whether two specs judge by the same thing, so that what was learned of one holds for the other.
func (s Spec) SameCheck(o Spec) bool {
	return s.Auto == o.Auto && slices.Equal(s.Test, o.Test) && (s.Probe == nil) == (o.Probe == nil) && (s.Probe == nil || sameProbe(*s.Probe, *o.Probe))
}

// ParseSpec reads the keys of an instance. watched tells whether it is ours to look after; when it is not though
// it has keys of ours, why says the reason. The error names the key, its value and what may stand there.
func ParseSpec(config map[string]string) (spec Spec, watched bool, why string, err error) {
	r := reader{config: config}
	spec = Spec{
		Interval: r.duration(KeyInterval, minInterval, DefaultInterval), Timeout: r.duration(KeyTimeout, time.Millisecond, DefaultTimeout),
		StartPeriod: r.duration(KeyStartPeriod, 0, 0), StartInterval: r.duration(KeyStartInterval, minInterval, DefaultStartInterval),
		Retries: r.count(KeyRetries, DefaultRetries), Successes: r.count(KeySuccesses, 1), Stretch: r.stretch(), Early: config[KeyEarly] == "true",
	}
	spec.Test = r.test()
	spec.Auto = config[KeyProbe] == "auto"
	if spec.Auto {
		spec.Shortcut = Recognise(spec.Test, func(name string) (string, bool) {
			v, set := config["environment."+name]
			return v, set
		})
	} else {
		spec.Probe = r.probe()
	}

	spec.Restart = r.policy()
	spec.OnUnhealthy = r.reaction(spec.Restart)

	wants := config[KeyTest] != "" || config[KeyProbe] != "" && !spec.Auto || spec.Restart.Acts()
	switch {
	case !wants:
		return spec, false, "", nil
	case config[KeyIgnore] == "true":
		return spec, false, KeyIgnore + " is set", nil
	case config[KeyEnabled] != "true":
		return spec, false, KeyEnabled + " is not true", nil
	}

	return spec, true, "", r.err
}

// Config writes a spec as the keys it is read from, defaults left out.
func (s Spec) Config() map[string]string {
	c := map[string]string{}
	if s.Checked() || s.Restart.Acts() {
		c[KeyEnabled] = "true"
	}

	if len(s.Test) > 0 {
		c[KeyTest] = mustJSON(s.Test)
	}

	switch {
	case s.Probe != nil:
		c[KeyProbe] = mustJSON(s.Probe)
	case s.Auto:
		c[KeyProbe] = "auto"
	}

	for _, d := range []struct {
		key        string
		value, def time.Duration
	}{
		{KeyInterval, s.Interval, DefaultInterval},
		{KeyTimeout, s.Timeout, DefaultTimeout},
		{KeyStartPeriod, s.StartPeriod, 0},
		{KeyStartInterval, s.StartInterval, DefaultStartInterval},
		{KeyRestartDelay, s.Restart.Delay, 0},
		{KeyRestartWindow, s.Restart.Window, 0},
	} {
		if d.value != d.def {
			c[d.key] = d.value.String()
		}
	}

	if s.Retries != DefaultRetries {
		c[KeyRetries] = strconv.Itoa(s.Retries)
	}

	if s.Successes != 1 {
		c[KeySuccesses] = strconv.Itoa(s.Successes)
	}

	if s.Stretch != 1 {
		c[KeyStretch] = strconv.Itoa(s.Stretch)
	}

	if s.Early {
		c[KeyEarly] = "true"
	}

	s.Restart.write(c)
	if s.OnUnhealthy != defaultReaction(s.Restart) {
		c[KeyOnUnhealthy] = string(s.OnUnhealthy)
	}

	return c
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // words and numbers always marshal
	}

	return string(b)
}

// reader reads keys and keeps the first thing that is wrong.
type reader struct {
	config map[string]string
	err    error
}

func (r *reader) wrong(key, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is %q: %s", key, clip(r.config[key], 80), want)
	}
}

func (r *reader) duration(key string, least, def time.Duration) time.Duration {
	v := r.config[key]
	if v == "" {
		return def
	}

	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
	case d == 0:
		return def
	case d >= least && d <= maxDuration:
		return d
	}

	r.wrong(key, fmt.Sprintf("write a duration from %s to %s such as 30s", least, maxDuration))

	return def
}

func (r *reader) count(key string, def int) int {
	v := r.config[key]
	if v == "" || v == "0" {
		return def
	}

	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 1_000_000 {
		r.wrong(key, "write a number of at least 1")
		return def
	}

	return n
}

func (r *reader) stretch() int {
	n := r.count(KeyStretch, 1)
	if n > maxStretch {
		r.wrong(KeyStretch, fmt.Sprintf("write a number from 1 to %d", maxStretch))
		return 1
	}

	return n
}

// test reads the list of words. NONE and the JSON null that lxc/incus-compose writes for a disabled check are no
// check.
func (r *reader) test() []string {
	v := r.config[KeyTest]
	if v == "" {
		return nil
	}

	var words []string
	err := json.Unmarshal([]byte(v), &words)
	if err != nil {
		r.wrong(KeyTest, `write a JSON list such as ["CMD", "program", "argument"]`)
		return nil
	}

	switch {
	case len(words) == 0 || words[0] == "NONE":
		return nil
	case words[0] != "CMD" && words[0] != "CMD-SHELL":
		r.wrong(KeyTest, `begin the list with "CMD", "CMD-SHELL" or "NONE"`)
		return nil
	case strings.Join(words[1:], "") == "":
		r.wrong(KeyTest, "write a command behind the first word")
		return nil
	}

	return words
}

func (r *reader) probe() *Probe {
	v := r.config[KeyProbe]
	if v == "" {
		return nil
	}

	p, err := parseProbe(v)
	if err != nil {
		r.wrong(KeyProbe, err.Error())
		return nil
	}

	return p
}

func (r *reader) reaction(p Policy) Reaction {
	switch v := Reaction(r.config[KeyOnUnhealthy]); v {
	case "":
	case ReactRestart, ReactNone, ReactStop, ReactNotify:
		return v
	default:
		r.wrong(KeyOnUnhealthy, "write restart, none, stop or notify")
	}

	return defaultReaction(p)
}

func defaultReaction(p Policy) Reaction {
	if p.Acts() {
		return ReactRestart
	}

	return ReactNone
}

// Argv is the command line of a Test; nil for none. CMD-SHELL hands over all its items as one text, as Docker
// does.
func (s Spec) Argv() []string {
	switch {
	case len(s.Test) == 0:
		return nil
	case s.Test[0] == "CMD-SHELL":
		return []string{"/bin/sh", "-c", strings.Join(s.Test[1:], " ")}
	}

	return s.Test[1:]
}

// clip shortens a text to n bytes, between runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}

	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}

	return s[:n] + "..."
}

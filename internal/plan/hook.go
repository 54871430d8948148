package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// Command is a hook made ready: what is run in an instance, and as whom.
type Command struct {
	Argv     []string
	UID, GID uint32
	Cwd      string
	Env      map[string]string `json:",omitempty"`
}

// String is the command line, for messages.
func (c Command) String() string { return shellWords(c.Argv) }

// hooks spells hooks out as the value of their key; "" when there are none.
func hooks(list []Hook, img Image, uid, gid uint32, cwd string, l launch) (string, error) {
	if len(list) == 0 {
		return "", nil
	}

	out := make([]Command, 0, len(list))
	for _, h := range list {
		c := Command{Argv: l.before(h.Command), UID: uid, GID: gid, Cwd: cwd, Env: maps.Clone(h.Environment)}
		switch {
		case h.User != "":
			var err error
			c.UID, c.GID, err = ResolveUser(h.User, img)
			if err != nil {
				return "", fmt.Errorf("user %q of a hook: %w", h.User, err)
			}
		case h.Privileged:
			c.UID, c.GID = 0, 0
		}

		if h.Cwd != "" {
			c.Cwd = h.Cwd
		}

		out = append(out, c)
	}

	b, err := json.Marshal(out)
	if err != nil {
		return "", err
	}

	return string(b), nil
}

// Commands reads hooks back from an instance's key; none where it holds nothing that can be read.
func Commands(value string) []Command {
	var out []Command
	if value == "" || json.Unmarshal([]byte(value), &out) != nil {
		return nil
	}

	return out
}

// hook is the state of the post_start hooks of a start.
type hook int

const (
	hookDue    hook = iota // not run for this start
	hookBegun              // begun, and its end was not seen
	hookFailed             // ended with something else than 0
	hookDone
)

// Marks of KeyHooked behind the start's time.
const (
	HookBegun  = "begun"
	HookFailed = "failed"
	HookDone   = "done"
)

// HookMark is the value of KeyHooked for a start: when it was, how its hooks are, and, of a failure, why.
func HookMark(start time.Time, state, why string) string {
	return strings.TrimSpace(strconv.FormatInt(start.UnixNano(), 10) + " " + state + " " + why)
}

// hookOf reads how the hooks of an instance's present start are.
func hookOf(have ObservedInstance) (state hook, why string) {
	start, rest, _ := strings.Cut(have.Config[KeyHooked], " ")
	if start != strconv.FormatInt(have.LastUsed.UnixNano(), 10) {
		return hookDue, ""
	}

	word, why, _ := strings.Cut(rest, " ")
	switch word {
	case HookDone:
		return hookDone, ""
	case HookFailed:
		return hookFailed, why
	}

	return hookBegun, "the agent ended while they ran"
}

// postStart runs the post_start hooks of an instance once for each start: after one of this plan, whose steps begin
// at from, and after one that somebody else made.
func (d *differ) postStart(w DesiredInstance, from int) {
	if w.Config[KeyPostStart] == "" {
		return
	}

	id := ID{KindInstance, w.Name}
	op := RunHooks{Instance: w.Name}
	stops := false
	for _, s := range d.plan.Steps[from:] {
		create, made := s.Op.(CreateInstance)
		_, started := s.Op.(StartInstance)
		if s.On == id && (started || made && create.Start) {
			d.step(id, op, "it is started")
			return
		}

		_, stop := s.Op.(StopInstance)
		stops = stops || stop && s.On == id
	}

	have := d.have.Instances[w.Name]
	if stops || have.Status != Running || have.Config[KeyPostStart] != w.Config[KeyPostStart] || have.Config[KeyOwner] != d.want.Owner {
		return
	}

	state, _ := hookOf(have)
	switch state {
	case hookDue:
		d.step(id, op, "it was started by somebody else")
	case hookBegun, hookFailed:
		d.plan.Blocked = append(d.plan.Blocked, Blocked{On: id, At: w.At, Service: w.Service, Reason: d.unhooked(w, have)})
	case hookDone:
	}
}

// unhooked says what is wrong with the post_start hooks of a running instance; "" when nothing is.
func (d *differ) unhooked(w DesiredInstance, have ObservedInstance) string {
	if w.Config[KeyPostStart] == "" || have.Status != Running || have.Config[KeyPostStart] != w.Config[KeyPostStart] {
		return ""
	}

	state, why := hookOf(have)
	if state != hookBegun && state != hookFailed {
		return ""
	}

	return fmt.Sprintf("its post_start hooks did not end well: %s. They run again at its next start: \"incus restart %s --project %s\"", why, w.Name, d.want.Incus)
}

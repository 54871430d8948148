package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Troubles are the instances that are what their files want and still do no work: those that ended by themselves with an
// error, or although their policy keeps them up, and those whose checks fail. A plan has nothing to do about them, but a
// user will want to know. Types are "Down", "Ended" and "Unhealthy".
func Troubles(p Project, have Observed, led Ledger) []Condition {
	var out []Condition
	for _, s := range p.Services {
		for i := range s.Replicas {
			c, bad := trouble(InstanceName(s, i+1), have, led, p.Incus)
			if bad {
				out = append(out, c)
			}
		}
	}

	return out
}

func trouble(name string, have Observed, led Ledger, project string) (Condition, bool) {
	inst, there := have.Instances[name]
	_, byHand := led.Stops[name]
	c := Condition{Object: ID{KindInstance, name}.String()}
	switch {
	case !there || byHand:
		return c, false
	case inst.Status == Running && inst.Config[KeyHealthStatus] == "unhealthy":
		detail := healthDetail(inst)
		c.Type, c.Since = "Unhealthy", detail.Since
		c.Text = fmt.Sprintf("its check fails: %s (ic-healthd probe %s/%s shows the whole of it)", orNothing(detail.Output), project, name)
		return c, true
	case inst.Status != Stopped || led.Started[name] == "":
		return c, false
	}

	code, known := led.Exits[name].Code, led.Exits[name].Known && led.Exits[name].Run.Equal(inst.LastUsed)
	if !known {
		code, known = exitCode(inst)
	}

	ended := "it ended, nobody saw how"
	if known {
		ended = "it ended with " + ExitWords(code) + unrun(code, inst)
	}

	const log = `; "incus console --show-log %s --project %s" shows what it said`
	full := inst.Config[keyHealthPrefix+"restart"]
	policy, _, _ := strings.Cut(full, ":")
	switch {
	case policy == "always" || policy == "unless-stopped" || policy == "on-failure" && (!known || code != 0):
		c.Type = "Down"
		c.Text = fmt.Sprintf("%s (restart: %s; \"ic-healthd status\" tells what comes next)", ended, full) + fmt.Sprintf(log, name, project)
		return c, true
	case known && code != 0:
		c.Type = "Ended"
		c.Text = ended + fmt.Sprintf(log, name, project)
		return c, true
	}

	return c, false
}

// unrunCode is what liblxc's init ends with when it cannot run the program, and it tells no more.
const unrunCode = 255

// unrun says that the program may never have run; empty where that would have been told.
func unrun(code int, inst ObservedInstance) string {
	raw := inst.Config["raw.lxc"]
	if code != unrunCode || !strings.Contains(raw, "lxc.signal.halt") || strings.Contains(raw, "lxc.init.cmd") {
		return ""
	}

	program, _, _ := strings.Cut(inst.Config["oci.entrypoint"], " ")

	return fmt.Sprintf(", which with \"init: true\" also means that the program %s does not exist or cannot be run: look at entrypoint, command and the image (without init the reason is told)", program)
}

func orNothing(output string) string {
	if output == "" {
		return "it says nothing"
	}

	return output
}

// watched is what the health daemon says of an instance (KeyHealthDetail).
type watched struct {
	Since  time.Time `json:"since"`
	Exit   *int      `json:"exit"`
	Output string    `json:"output"`
	// Unwell is when it last became unhealthy, also when it has been restarted for that.
	Unwell time.Time `json:"unwell"`
}

// healthDetail reads it; the zero value when there is none, or none that can be read.
func healthDetail(inst ObservedInstance) watched {
	var w watched
	err := json.Unmarshal([]byte(inst.Config[KeyHealthDetail]), &w)
	if err != nil {
		return watched{}
	}

	return w
}

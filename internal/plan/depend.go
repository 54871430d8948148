package plan

import "fmt"

// needs are the instances that must have been started before this one.
func (d *differ) needs(w DesiredInstance) []ID {
	var ids []ID
	for _, need := range w.Needs {
		for _, other := range d.services[need.Service] {
			ids = append(ids, ID{KindInstance, other.Name})
		}
	}

	return ids
}

// waits blocks the start of an instance whose dependencies are not what it asks of them yet (compose-spec
// "depends_on"). The change of a status is an event, and the next plan has the start. A dependency that is not
// required holds nothing once it is clear that it will not be had.
func (d *differ) waits(w DesiredInstance) bool {
	for _, need := range w.Needs {
		reason, comes := d.lacking(need)
		switch {
		case reason == "":
		case need.Optional && !comes:
			d.plan.Warnings = append(d.plan.Warnings, Warning{
				File: w.At.File, Line: w.At.Line, Key: "services." + w.Service + ".depends_on." + need.Service,
				Text: "it starts without, because it is not required: " + reason,
			})
		default:
			d.plan.Blocked = append(d.plan.Blocked, Blocked{On: ID{KindInstance, w.Name}, Reason: reason, At: w.At, Waits: comes})
			return true
		}
	}

	return false
}

// lacking says why a service does not fulfil the condition of who needs it, "" when it does; comes says that time
// will mend it.
func (d *differ) lacking(need Dependency) (reason string, comes bool) {
	for _, b := range d.missing[need.Service] {
		// The block itself says what is wrong and whether it passes.
		return fmt.Sprintf("it waits for %s, which cannot be had now: %s", b.On.Name, b.Reason), !need.Optional
	}

	for _, other := range d.services[need.Service] {
		reason, comes = d.unmet(need, *other)
		if reason != "" {
			return reason, comes
		}
	}

	return "", false
}

// unmet says why an instance does not fulfil a condition.
func (d *differ) unmet(need Dependency, other DesiredInstance) (reason string, comes bool) {
	have := d.have.Instances[other.Name]
	reason = d.unhooked(other, have)
	if reason != "" && !d.turned[other.Name] {
		return fmt.Sprintf("it waits for %s: %s", other.Name, reason), false
	}

	switch need.Condition {
	case "service_healthy":
		switch {
		case other.Config[keyHealthTest] == "" && other.Config[keyHealthEnabled] != "true":
			return fmt.Sprintf("it waits for %s to be healthy, and that has no healthcheck: add one, or depend on service_started", other.Name), false
		case d.turned[other.Name] && healthWord(have) == "healthy":
			return fmt.Sprintf("it waits for %s to be healthy again, after its own change", other.Name), true
		case d.turned[other.Name] || have.Status != Running || have.Config[KeyHealthStatus] != "healthy":
			return fmt.Sprintf("it waits for %s to be healthy, which is %s", other.Name, healthWord(have)),
				!need.Optional || have.Config[KeyHealthStatus] != "unhealthy"
		}
	case "service_completed_successfully":
		return d.undone(other, have)
	}

	return "", false
}

// undone says why a job has not done its work: it has when it ended by itself, with 0, since it was started with
// its present definition.
func (d *differ) undone(job DesiredInstance, have ObservedInstance) (reason string, comes bool) {
	if d.turned[job.Name] || have.Status != Stopped || d.led.Started[job.Name] != job.Config[KeyBoot] {
		return fmt.Sprintf("it waits for %s to have done its work", job.Name), true
	}

	exit, read := d.led.Exits[job.Name]
	read = read && exit.Run.Equal(have.LastUsed)
	if !read {
		code, known := exitCode(have)
		exit = Exit{Code: code, Known: known}
	}

	switch {
	case !exit.Known && !read:
		return fmt.Sprintf("it waits to hear how %s ended", job.Name), true
	case !exit.Known || exit.Code == 0:
		return "", false
	}

	policy := job.Config[keyHealthPrefix+"restart"]
	if policy != "" && policy != "no" {
		return fmt.Sprintf("it waits for %s to end with 0; it ended with %s, and its restart policy (%s) runs it again", job.Name, ExitWords(exit.Code), policy), true
	}

	return fmt.Sprintf("it needs %s to end with 0, and that ended with %d: \"incus console --show-log %s --project %s\" shows why; run it again with \"incus start %s --project %s\", or change it",
		job.Name, exit.Code, job.Name, d.want.Incus, job.Name, d.want.Incus), false
}

func healthWord(have ObservedInstance) string {
	switch {
	case have.Status != Running:
		return "not running yet"
	case have.Config[KeyHealthStatus] == "":
		return "not checked yet (is ic-healthd running?)"
	}

	return have.Config[KeyHealthStatus]
}

// stopDependents stops, before a service is interrupted or started anew, the running ones that ask for it with
// "restart: true", and those that ask for them. Their own turn comes later in the plan, or in a later one: they
// start when the condition they set holds again.
func (d *differ) stopDependents(service string) []ID {
	if d.led.Started == nil || len(d.clients[service]) == 0 {
		return nil
	}

	var ids []ID
	for _, w := range d.clients[service] {
		id := ID{KindInstance, w.Name}
		have := d.have.Instances[w.Name]
		held, _ := d.holds(*w)
		switch {
		case d.stopped[w.Name]:
			ids = append(ids, id)
		case have.Status != Running || have.Config[KeyOwner] != d.want.Owner || held || w.Leave:
		default:
			d.stopped[w.Name] = true
			first := d.stopDependents(w.Service)
			d.step(id, StopInstance{Name: w.Name, Grace: w.Grace}, "it depends on "+service+" with restart: true", first...).Interrupts = true
			ids = append(ids, id)
		}
	}

	return ids
}

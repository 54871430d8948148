package plan

import "fmt"

// needs are the instances that must have been started before this one.
func (d *differ) needs(w DesiredInstance) []ID {
	var ids []ID
	for _, need := range w.Needs {
		for _, other := range d.want.Instances {
			if other.Service == need.Service {
				ids = append(ids, ID{KindInstance, other.Name})
			}
		}
	}

	return ids
}

// waits blocks the start of an instance whose dependencies are not what it asks of them yet (compose-spec
// "depends_on"). The change of a status is an event, and the next plan has the start.
func (d *differ) waits(w DesiredInstance) bool {
	for _, need := range w.Needs {
		for _, other := range d.want.Instances {
			if other.Service != need.Service {
				continue
			}

			reason, comes := d.unmet(need, other)
			if reason != "" {
				d.plan.Blocked = append(d.plan.Blocked, Blocked{On: ID{KindInstance, w.Name}, Reason: reason, At: w.At, Waits: comes})
				return true
			}
		}
	}

	return false
}

// unmet says why a dependency does not fulfil its condition, "" when it does; comes says that time will mend it.
func (d *differ) unmet(need Dependency, other DesiredInstance) (reason string, comes bool) {
	have := d.have.Instances[other.Name]
	planned := d.last[ID{KindInstance, other.Name}] != 0
	switch need.Condition {
	case "service_healthy":
		switch {
		case other.Config[keyHealthTest] == "" && other.Config[keyHealthEnabled] != "true":
			return fmt.Sprintf("it waits for %s to be healthy, and that has no healthcheck: add one, or depend on service_started", other.Name), false
		case planned || have.Status != Running || have.Config[KeyHealthStatus] != "healthy":
			return fmt.Sprintf("it waits for %s to be healthy, which is %s", other.Name, healthWord(have)), true
		}
	case "service_completed_successfully":
		if planned || have.Status != Stopped || d.led.Started[other.Name] != other.Config[KeyBoot] {
			return fmt.Sprintf("it waits for %s to have done its work", other.Name), true
		}

		code, known := exitCode(have)
		if known && code != 0 {
			return fmt.Sprintf("it needs %s to end with 0, and that ended with %d: mend it, then \"incus start %s --project %s\"", other.Name, code, other.Name, d.want.Incus), false
		}
	}

	return "", false
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

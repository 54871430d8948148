package plan

import (
	"cmp"
	"slices"
	"time"
)

// drain is the time between a name's withdrawal and the stop of its instance, for who has just asked for it.
const drain = time.Second

// surgeOver is why a candidate goes.
const surgeOver = "the update it was the candidate of is over"

// candidateReady is for how long an unchecked instance has to run where a candidate of its version has been watched.
const candidateReady = 3 * time.Second

// startsFirst says whether a service may have one more instance of itself for a while: nothing of it is exclusive, and
// it is no job.
func startsFirst(p Project, s Service) bool {
	exclusive := s.ContainerName != "" || len(s.Ports) > 0 || len(s.Devices) > 0 || s.Replicas < 1
	for _, m := range s.Mounts {
		exclusive = exclusive || m.Type != MountTmpfs && !m.ReadOnly
	}

	for _, other := range p.Services {
		exclusive = exclusive || other.ContainerName == InstanceName(s, s.Replicas+1)
	}

	for _, a := range s.Networks {
		external := slices.ContainsFunc(p.Networks, func(n Network) bool { return n.Name == a.Network && n.External })
		exclusive = exclusive || external || a.IPv4.IsValid() || a.MAC != ""
	}

	job := s.Restart == "no"
	for _, other := range p.Services {
		job = job || slices.ContainsFunc(other.DependsOn, func(d Dependency) bool {
			return d.Service == s.Name && d.Condition == "service_completed_successfully"
		})
	}

	return !exclusive && !job && s.Rollout.Order != StopFirst
}

// candidateUseful says, once the image is known, whether a candidate is started first: where the file asks for it, or
// where a health check tells when it serves. Without one, thirty seconds would pass before every change.
func candidateUseful(s Service, img Image) bool {
	image := img.Healthcheck != nil && !s.NoHealthcheck
	check := image || s.Config[keyHealthTest] != "" || s.Config[keyHealthEnabled] == "true" || s.Probe != nil

	return len(img.Volumes) == 0 && (s.Rollout.Order == StartFirst || check)
}

// Spare returns the project with one more replica of each service that may be updated by a candidate, so that there is
// an address for it.
func Spare(p Project, led Ledger) Project {
	return surge(p, led, func(Service) bool { return true })
}

// Surging returns the project with one more replica of each service that is updated by a candidate.
func Surging(p Project, led Ledger, images map[string]Image) Project {
	return surge(p, led, func(s Service) bool {
		img, known := images[s.Image.Ref]
		return known && candidateUseful(s, img)
	})
}

func surge(p Project, led Ledger, may func(Service) bool) Project {
	out := p
	out.Services = slices.Clone(p.Services)
	for i, s := range p.Services {
		good, known := led.Good[s.Name]
		ro, active := led.Rollouts[s.Name]
		over := ro.Phase == HeldBack || ro.Phase == Paused
		digest := led.Images[s.Image.Ref].Digest
		differs := good.Hash != p.Hash || digest != "" && digest != good.Digest
		changes := known && (differs || active) && !(over && ro.Hash == p.Hash && ro.Digest == digest)
		if changes && startsFirst(p, s) && may(s) {
			out.Services[i].Replicas++
		}
	}

	return out
}

// Candidate is the name of a service's candidate: that of one more replica.
func Candidate(p Project, service string) string {
	for _, s := range p.Services {
		if s.Name == service {
			return InstanceName(s, s.Replicas+1)
		}
	}

	return ""
}

// candidate decides about the instance that is started first, and reports whether the others may follow.
func (u *update) candidate() bool {
	if u.surge != nil && u.taken() {
		u.surge = nil
	}

	if u.surge == nil || u.same {
		u.ro.Surge = nil
		return true
	}

	if u.ro.Surge == nil {
		begins := len(u.ro.Trials) == 0 && u.gate() == "" &&
			slices.ContainsFunc(u.members, func(m member) bool { return m.running && !m.at })
		if !begins {
			return true
		}

		u.ro.Surge = &Trial{Boot: u.surge.Config[KeyBoot], Moved: u.in.Now}
	}

	t, why, due := *u.ro.Surge, "it is being started", time.Time{}
	if t.Boot != u.surge.Config[KeyBoot] {
		t = Trial{Boot: u.surge.Config[KeyBoot], Moved: u.in.Now}
	}

	m := u.member(*u.surge)
	if m.exists && m.at && !t.ended() {
		t, why, due = u.judge(m, *u.surge, t, u.watched)
		if t.Failed != "" {
			u.out.Failures = append(u.out.Failures, Failure{Service: u.s.Name, Instance: u.surge.Name, Reason: t.Failed})
		}
	}

	u.ro.Surge = &t
	switch {
	case t.Passed:
		u.wantCandidate()
		return true
	case t.Failed == "":
		u.wantCandidate()
		u.out.Notes[u.surge.Name] = "candidate: " + why
		u.look(due)
		for _, m := range u.members {
			if m.at {
				u.want(m.now)
			} else {
				u.wait(m, "its candidate "+u.surge.Name+" comes first, and "+why)
			}
		}

		u.out.Rollouts[u.s.Name] = u.ro

		return false
	case u.s.Rollout.Action == ActionContinue:
		return true
	case u.s.Rollout.Action == ActionPause:
		u.ro.Phase = Paused
	default:
		u.ro.Phase = HeldBack
	}

	u.ro.Reason = u.surge.Name + ", the candidate: " + t.Failed

	return false
}

// taken says that the candidate's name is another instance's: a stranger's, or that of a replica there was once, which
// is parked and would go with the update.
func (u *update) taken() bool {
	have, there := u.in.Have.Instances[u.surge.Name]

	return there && (have.Config[KeyOwner] != u.in.New.Owner || have.Config[KeySurge] == "")
}

// wantCandidate wants the candidate for as long as the update lasts.
func (u *update) wantCandidate() {
	w := *u.surge
	w.Config = cloneWith(w.Config, KeySurge, "true")
	u.want(w)
}

// served says that a candidate serves in place of the instances that change.
func (u *update) served() bool { return u.ro.Surge != nil && u.ro.Surge.Passed && u.surge != nil }

// watched is for how long an instance has to be well.
func (u *update) watched(checked bool) time.Duration {
	if checked {
		return cmp.Or(u.s.Rollout.Monitor, monitorHealthy)
	}

	return cmp.Or(u.s.Rollout.Monitor, monitorUnchecked)
}

// monitor is the same for the others, which need only be up where a candidate has been watched.
func (u *update) monitor(checked bool) time.Duration {
	switch {
	case !u.served():
		return u.watched(checked)
	case checked:
		return 0
	}

	return min(candidateReady, u.watched(checked))
}

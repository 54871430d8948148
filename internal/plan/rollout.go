package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Rolling is what Roll decides about.
type Rolling struct {
	Project    Project
	Generation uint64
	// New is the project spelled out; Old is it with each service as it was last good (Before). Old holds only
	// services that differ.
	New, Old Desired
	Have     Observed
	Ledger   Ledger
	// Addresses are all that are handed out, by Incus network and instance.
	Addresses map[string]map[string]netip.Addr
	// Blind is until when Incus did not answer, or not soon: nobody knows what an instance did before. Zero when it
	// always did.
	Blind time.Time
	// Shut says that the stack's window is closed; nil while running services may be interrupted.
	Shut *Shut
	Now  time.Time
}

// Rolled is what is to be had now.
type Rolled struct {
	// Want is New with the instances that may not change yet, or have to go back, as they were.
	Want     Desired
	Rollouts map[string]Rollout
	Good     map[string]Version
	// Next is when to look again, because time alone changes the answer; zero when it does not.
	Next time.Time
	// Failures are the trials that failed just now: what they last wrote is to be read before they are undone.
	Failures []Failure
	// Again names the instances that are to be started again.
	Again []string
	// Accepted names the services whose version has just proved good.
	Accepted []string
	// Notes say what is to be known of an instance, by name.
	Notes map[string]string
}

// Failure is a trial that failed.
type Failure struct{ Service, Instance, Reason string }

// Roll decides which instances of a stack may change in this pass, which wait, and which go back. It is a function of
// what is there and what is remembered, so that an agent that died in the middle goes on where it was. What an update
// is and does not need is compose-spec's "deploy": update_config and rollback_config.
func Roll(in Rolling) Rolled {
	r := roller{
		in: in, d: newDiffer(in.New, in.Have, in.Ledger), old: map[string]DesiredInstance{},
		out: Rolled{Want: in.New, Rollouts: map[string]Rollout{}, Good: map[string]Version{}, Notes: map[string]string{}},
	}
	r.out.Want.Instances, r.out.Want.Blocked = nil, slices.Clone(in.New.Blocked)
	if in.Shut != nil {
		r.out.Want.Shut = in.Shut.String()
		r.out.Want.Hurried = in.Shut.Hurried
	}

	for _, w := range in.Old.Instances {
		r.old[w.Name] = w
	}

	byService := map[string][]DesiredInstance{}
	var order []string
	for _, w := range r.d.ordered() {
		if byService[w.Service] == nil {
			order = append(order, w.Service)
		}

		byService[w.Service] = append(byService[w.Service], *w)
	}

	at := map[string]int{}
	for i, s := range in.Project.Services {
		r.keep(s.Name, byService[s.Name] != nil)
		at[s.Name] = i
	}

	for _, name := range order {
		r.service(in.Project.Services[at[name]], byService[name])
	}

	slices.SortFunc(r.out.Want.Instances, func(a, b DesiredInstance) int { return strings.Compare(a.Name, b.Name) })
	r.needed()

	return r.out
}

type roller struct {
	in  Rolling
	d   *differ // for comparing only
	old map[string]DesiredInstance
	out Rolled
}

// keep carries over what is known of a service that cannot be rendered now.
func (r *roller) keep(name string, rendered bool) {
	v, known := r.in.Ledger.Good[name]
	if known {
		r.out.Good[name] = v
	}

	ro, active := r.in.Ledger.Rollouts[name]
	if active && !rendered {
		r.out.Rollouts[name] = ro
	}
}

// needed adds the networks and volumes of instances that stay, or become, what they were.
func (r *roller) needed() {
	for _, n := range r.in.Old.Networks {
		has := slices.ContainsFunc(r.out.Want.Networks, func(o DesiredNetwork) bool { return o.Name == n.Name })
		used := slices.ContainsFunc(r.out.Want.Instances, func(w DesiredInstance) bool { return slices.Contains(w.Networks, n.Name) })
		if !has && (used || len(r.out.Rollouts) > 0) {
			r.out.Want.Networks = append(slices.Clip(r.out.Want.Networks), n)
		}
	}

	for _, v := range r.in.Old.Volumes {
		id := v.Pool + "/" + v.Name
		has := slices.ContainsFunc(r.out.Want.Volumes, func(o DesiredVolume) bool { return o.Pool+"/"+o.Name == id })
		used := slices.ContainsFunc(r.out.Want.Instances, func(w DesiredInstance) bool { return slices.Contains(w.Volumes, id) })
		if !has && used {
			r.out.Want.Volumes = append(slices.Clip(r.out.Want.Volumes), v)
		}
	}
}

// member is an instance of the service that is being looked at.
type member struct {
	now, was DesiredInstance
	hasWas   bool
	have     ObservedInstance
	exists   bool
	running  bool
	// at and back say that it has the spec of now, or of before.
	at, back bool
	// byHand says that somebody stopped it, and that it is to stay so.
	byHand bool
}

// mayServe says that a change would interrupt what somebody may be served by: it runs, and is healthy where that is
// checked.
func (m member) mayServe() bool {
	status, _ := HealthOf(m.have)

	return m.exists && m.running && (status == "healthy" || !Checked(m.have.Config))
}

func (r *roller) member(w DesiredInstance) member {
	m := member{now: w}
	m.was, m.hasWas = r.old[w.Name]
	m.have, m.exists = r.in.Have.Instances[w.Name]
	if !m.exists || m.have.Config[KeyOwner] != r.in.New.Owner {
		m.exists = false
		return m
	}

	m.running = m.have.Status != Stopped && m.have.Status != Error
	_, m.byHand = r.in.Ledger.Stops[w.Name]
	m.byHand = m.byHand && !m.running
	m.at = !r.d.compare(w, m.have).restart
	m.back = m.hasWas && !r.d.compare(m.was, m.have).restart

	return m
}

// service decides about the instances of one service.
func (r *roller) service(s Service, wanted []DesiredInstance) {
	v, known := r.in.Ledger.Good[s.Name]
	ro, active := r.in.Ledger.Rollouts[s.Name]
	digest := wanted[0].Image.Digest
	same := known && !active && v.Hash == r.in.Project.Hash && v.Digest == digest
	if same && r.in.Shut == nil {
		for _, w := range wanted {
			r.want(w)
		}

		return
	}

	var surge *DesiredInstance
	wanted = slices.DeleteFunc(wanted, func(w DesiredInstance) bool {
		if s.Replicas > 0 && s.ContainerName == "" && w.Name == InstanceName(s, s.Replicas+1) {
			surge = &w
		}

		return surge != nil && w.Name == surge.Name
	})
	members := make([]member, len(wanted))
	moves, hasWas := false, true
	for i, w := range wanted {
		members[i] = r.member(w)
		moves = moves || members[i].exists && !members[i].at
		hasWas = hasWas && members[i].hasWas
	}

	underway := active && (ro.Phase == "" || ro.Phase == GoingBack)
	if active && (ro.Hash != r.in.Project.Hash || ro.Digest != digest) {
		ro = r.supersede(ro, members)
		active = moves || len(ro.Trials) > 0 || ro.Surge != nil
	} else if active {
		underway = true // A version that was given up stays so: nothing of it changes.
	}

	switch {
	case r.shut(s, members, underway):
		return
	case active && ro.Phase != "" && ro.Phase != Paused && !hasWas:
		r.leave(s, ro, members) // The ledger was lost, or a network, and with it what to go back to.
		return
	case same, !active && (!moves || !known && !r.several(members)):
		r.direct(s, v, members)
		return
	case !active:
		ro = Rollout{Since: r.in.Now}
	}

	ro.Hash, ro.Digest, ro.Generation = r.in.Project.Hash, digest, r.in.Generation
	u := update{roller: r, s: s, ro: ro, members: members, from: v.Generation, same: !hasWas, first: !known, surge: surge}
	u.run()
}

// supersede begins an update anew for another version: what was changed to the very spec that is wanted now, and is
// not known to be bad, goes on being watched.
func (r *roller) supersede(ro Rollout, members []member) Rollout {
	next := Rollout{Since: r.in.Now, Trials: map[string]Trial{}}
	if ro.Phase == "" && ro.Surge != nil && ro.Surge.Failed == "" {
		next.Surge = ro.Surge
	}

	for _, m := range members {
		t, tried := ro.Trials[m.now.Name]
		if tried && m.at && t.Failed == "" && t.Boot == m.now.Config[KeyBoot] {
			next.Trials[m.now.Name] = t
		}
	}

	return next
}

// several says that one of several instances may serve and is to change: they change in turn, although there is
// nothing to go back to yet.
func (r *roller) several(members []member) bool {
	return len(members) > 1 && slices.ContainsFunc(members, func(m member) bool { return !m.at && m.mayServe() })
}

// direct wants the service as the file has it, at once: there is nothing to change, or nothing to go back to.
func (r *roller) direct(s Service, v Version, members []member) {
	steady := true
	for _, m := range members {
		r.want(m.now)
		due, well := r.steady(s, m)
		steady = steady && well
		if !well {
			r.look(due)
		}
	}

	if steady && (v.Hash != r.in.Project.Hash || v.Digest != members[0].now.Image.Digest) {
		r.accept(s, members)
	}
}

// accept makes the version of now the one to go back to.
func (r *roller) accept(s Service, members []member) {
	var wanted []DesiredInstance
	for _, m := range members {
		wanted = append(wanted, m.now)
	}

	r.out.Good[s.Name] = versionOf(r.in.Project, s, wanted, r.in.Generation, r.in.Addresses)
	r.out.Accepted = append(r.out.Accepted, s.Name)
}

// leave changes nothing about a service whose failed version is known and whose good one is not.
func (r *roller) leave(s Service, ro Rollout, members []member) {
	for _, m := range members {
		w := m.now
		if m.exists {
			w.Leave = true
		}

		r.want(w)
	}

	r.out.Rollouts[s.Name] = ro
	r.out.Want.Blocked = append(r.out.Want.Blocked, Blocked{
		On: ID{KindService, s.Name}, Type: TypeRolledBack, At: s.At,
		Reason: fmt.Sprintf("this version failed before, and what runs is left as it is until the file or its image changes, or \"ic-agent retry %s/%s\": %s", r.in.Project.Stack, s.Name, ro.Reason),
	})
}

// want adds an instance. One that was stopped by hand stays so when the host starts again, too.
func (r *roller) want(w DesiredInstance) {
	_, byHand := r.in.Ledger.Stops[w.Name]
	if byHand && w.Config[keyAutostart] == "true" {
		w.Config = cloneWith(w.Config, keyAutostart, "false")
	}

	r.out.Want.Instances = append(r.out.Want.Instances, w)
}

func cloneWith(m map[string]string, k, v string) map[string]string {
	m = maps.Clone(m)
	m[k] = v

	return m
}

// look notes a time at which the answer may be another one.
func (r *roller) look(at time.Time) {
	if !at.IsZero() && (r.out.Next.IsZero() || at.Before(r.out.Next)) {
		r.out.Next = at
	}
}

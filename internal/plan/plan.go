package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind is a kind of Incus object.
type Kind string

// The kinds a plan touches.
const (
	KindProject  Kind = "project"
	KindNetwork  Kind = "network"
	KindVolume   Kind = "volume"
	KindImage    Kind = "image"
	KindInstance Kind = "instance"
	// KindService is a compose service: it stands in conditions, never in a step.
	KindService Kind = "service"
)

// ID names an object. It prints as "instance/web-1".
type ID struct {
	Kind Kind
	Name string
}

// String returns "kind/name".
func (id ID) String() string { return string(id.Kind) + "/" + id.Name }

// Step is one call, with its reason.
type Step struct {
	// N counts from 1 in the order of the plan; a step comes after all it waits for.
	N  int
	Op Op
	On ID
	// Cause is why, in words a user can read: "image changed: nginx:1.27 → nginx:1.28".
	Cause string
	// After lists the steps that must have succeeded before this one, ascending.
	After []int
	// Interrupts says that the service is not running for a moment because of this step.
	Interrupts bool
}

// Plan is what to do about a stack. An empty one is the sign that all is as wanted.
type Plan struct {
	Stack string
	Steps []Step
	// Blocked is what cannot be done now, and why; what runs of it keeps running.
	Blocked []Blocked
	// Warnings are those of the files, and of this comparison.
	Warnings []Warning
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Steps) == 0 }

// Without returns the plan without the steps on some objects and all that wait for them, numbered anew.
func (p Plan) Without(on func(ID) bool) Plan {
	number := map[int]int{} // old → new; absent: left out
	var kept []Step
	for _, s := range p.Steps {
		out := on(s.On)
		after := make([]int, 0, len(s.After))
		for _, n := range s.After {
			_, ok := number[n]
			out = out || !ok
			after = append(after, number[n])
		}

		if out {
			continue
		}

		number[s.N] = len(kept) + 1
		s.N, s.After = len(kept)+1, after
		kept = append(kept, s)
	}

	p.Steps = kept

	return p
}

// String prints the plan, one line a step. The text is stable: tests, logs and "ic-agent plan" show it.
func (p Plan) String() string {
	var b strings.Builder
	if p.Empty() {
		fmt.Fprintf(&b, "stack %s: nothing to do\n", p.Stack)
	} else {
		s := "s"
		if len(p.Steps) == 1 {
			s = ""
		}

		fmt.Fprintf(&b, "stack %s: %d step%s\n", p.Stack, len(p.Steps), s)
	}

	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s\n", s)
	}

	for _, bl := range p.Blocked {
		fmt.Fprintf(&b, "%s\n", bl)
	}

	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "%s\n", w)
	}

	return b.String()
}

// String prints "[4 after 1,2] create and start instance/web-1: new service web".
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%d", s.N)
	for i, n := range s.After {
		sep := ","
		if i == 0 {
			sep = " after "
		}

		b.WriteString(sep + strconv.Itoa(n))
	}

	fmt.Fprintf(&b, "] %s %s: %s", verb(s.Op), s.On, s.Cause)

	return b.String()
}

// Brief returns "stop instance/web-1: environment.MODE".
func (s Step) Brief() string { return verb(s.Op) + " " + s.On.String() + ": " + s.Cause }

// verb says what an op does to its object.
func verb(op Op) string {
	switch op := op.(type) {
	case CreateProject, CreateNetwork, CreateVolume:
		return "create"
	case UpdateProject, UpdateNetwork, UpdateVolume, UpdateInstance:
		return "update"
	case DeleteProject, DeleteNetwork, DeleteVolume, DeleteInstance, DeleteImage:
		return "delete"
	case PullImage:
		return "pull"
	case CreateInstance:
		if op.Start {
			return "create and start"
		}

		return "create"
	case RebuildInstance:
		return "rebuild"
	case PushFile:
		return "write " + op.File.Target + " in"
	case PlaceFiles:
		return "place the files of"
	case SeedVolume:
		return "copy the image's files into"
	case SnapshotVolume:
		return "take the snapshot " + op.Name + " of"
	case DeleteSnapshot:
		return "delete the snapshot " + op.Name + " of"
	case RestoreVolume:
		return "restore the snapshot " + op.Name + " of"
	case MakeHostDir:
		return "make " + op.Path + " on the host for"
	case MakeTargets:
		return "make the mount points of"
	case SignalInstance:
		return "send " + op.Signal + " to"
	case RunHooks:
		return "run post_start in"
	case StartInstance:
		return "start"
	case StopInstance:
		return "stop"
	}

	return fmt.Sprintf("%T", op)
}

// String prints "blocked instance/web-1: reason (blog.yaml:7)".
func (b Blocked) String() string {
	word := "blocked"
	switch {
	case b.Type == TypeRemovalHeld:
		word = "held"
	case b.Type != "":
		word = strings.ToLower(b.Type)
	case b.Conflict:
		word = "conflict"
	case b.Waits:
		word = "waiting"
	}

	return word + " " + b.On.String() + ": " + b.Reason + b.At.Suffix()
}

// String prints "warning services.web.logging: text (blog.yaml:7)".
func (w Warning) String() string {
	s := "warning "
	if w.Key != "" {
		s += w.Key + ": "
	}

	return s + w.Text + Place{w.File, w.Line}.Suffix()
}

// Suffix returns " (blog.yaml:7)", for the end of a sentence; empty when no place is known.
func (p Place) Suffix() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return " (" + p.File + ")"
	}

	return " (" + p.File + ":" + strconv.Itoa(p.Line) + ")"
}

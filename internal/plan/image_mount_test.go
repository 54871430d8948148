package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// imageMounted is the blog, whose web services mount what an image holds.
func imageMounted() (plan.Project, func(plan.Observed, *plan.Ledger) plan.Desired) {
	p := blog()
	p.Services[1].Mounts = []plan.Mount{{Type: plan.MountImage, Source: "site:1", Target: "/www", Subpath: "html", ReadOnly: true}}

	return p, func(have plan.Observed, led *plan.Ledger) plan.Desired {
		in := input(p, have, led)
		in.Images["site:1"] = image("site:1")

		return plan.Render(p, in)
	}
}

// lines are those of a plan that speak of images, volumes of images and what they are copied out of.
func lines(p plan.Plan) []string {
	var out []string
	for line := range strings.Lines(p.String()) {
		if strings.Contains(line, "site:1") || strings.Contains(line, "image-") {
			_, text, _ := strings.Cut(line, "] ")
			out = append(out, strings.ReplaceAll(strings.TrimSpace(text), "docker.io/library/", ""))
		}
	}

	return out
}

func TestImageIsCopiedOnceAndMountedReadOnly(t *testing.T) {
	_, render := imageMounted()
	w, led := newWorld(), newLedger()
	want := render(w.Observed, led)
	first := plan.Diff(want, w.Observed, *led)
	name := ""
	for _, v := range want.Volumes {
		if v.Copy.Ref != "" {
			name = strings.TrimPrefix(v.Name, "vol-")
		}
	}

	steps := []string{
		"create volume/default/vol-" + name + ": the image site:1 is mounted",
		"pull image/site:1: not on this host",
		"create instance/" + name + ": the image site:1 is mounted",
		"copy the image's files into volume/default/vol-" + name + ": the image site:1 is mounted",
		"update volume/default/vol-" + name + ": the image's files are there",
		"delete instance/" + name + ": its files are copied",
	}
	if diff := cmp.Diff(steps, lines(first)); diff != "" {
		t.Fatal(diff)
	}

	var copied, started int
	for _, s := range first.Steps {
		switch op := s.Op.(type) {
		case plan.UpdateVolume:
			copied = s.N
		case plan.CreateInstance:
			mounts := false
			for _, dev := range op.Devices {
				mounts = mounts || dev["source"] == "vol-"+name && dev["readonly"] == "true" && dev["path"] == "/www"
			}

			if mounts {
				started = s.N
			}
		}
	}

	if copied == 0 || started < copied {
		t.Errorf("the files are there at step %d, who mounts them is made at %d: %s", copied, started, first)
	}

	err := w.run(first)
	if err != nil {
		t.Fatal(err)
	}

	for _, line := range lines(plan.Diff(render(w.Observed, led), w.Observed, *led)) {
		t.Errorf("again: %s", line)
	}
}

// A copy that was broken off goes on, with the instance that is there, and what nobody copies out of any more goes.
func TestBrokenOffCopyOfAnImageGoesOn(t *testing.T) {
	p, render := imageMounted()
	w, led := newWorld(), newLedger()
	first := plan.Diff(render(w.Observed, led), w.Observed, *led)
	for i, s := range first.Steps {
		_, copies := s.Op.(plan.SeedVolume)
		if copies {
			first.Steps = first.Steps[:i]
			break
		}
	}

	err := w.run(first)
	if err != nil {
		t.Fatal(err)
	}

	again := strings.Join(lines(plan.Diff(render(w.Observed, led), w.Observed, *led)), "\n")
	for _, want := range []string{"copy the image's files", "its files are copied"} {
		if strings.Count(again, want) != 1 || strings.Contains(again, "create ") {
			t.Errorf("%q in\n%s", want, again)
		}
	}

	p.Services[1].Mounts = nil
	left := lines(plan.Diff(plan.Render(p, input(p, w.Observed, led)), w.Observed, *led))
	if len(left) != 1 || !strings.HasPrefix(left[0], "delete instance/image-") {
		t.Errorf("%v", left)
	}
}

func TestMountedImageThatIsNotThereHoldsItsService(t *testing.T) {
	p, _ := imageMounted()
	in := input(p, newWorld().Observed, newLedger())
	in.Missing = map[string]plan.Blocked{"site:1": {Reason: "not found: no tag 1"}}
	d := plan.Render(p, in)
	if len(d.Blocked) == 0 || d.Blocked[0].Reason != "the image that is mounted at /www: not found: no tag 1" {
		t.Errorf("%+v", d.Blocked)
	}
}

// A volume is unused that is ours, wanted no more, and mounted by nothing.
func TestUnusedVolumes(t *testing.T) {
	ours := map[string]string{plan.KeyOwner: "me"}
	have := plan.Observed{Volumes: map[string]plan.ObservedVolume{
		"default/vol-image-new": {Pool: "default", Config: ours},
		"default/vol-image-old": {Pool: "default", Config: ours},
		"default/vol-parked":    {Pool: "default", Config: ours, UsedBy: 1},
		"default/by-hand":       {Pool: "default"},
		"fast/vol-image-new":    {Pool: "fast", Config: ours},
	}}
	want := plan.Desired{Incus: "blog", Volumes: []plan.DesiredVolume{{Pool: "default", Name: "vol-image-new"}}}
	if got := plan.Unused(want, have, "me"); !slices.Equal(got, []string{"default/vol-image-old", "fast/vol-image-new"}) {
		t.Errorf("got %v", got)
	}

	unmade := want
	unmade.Blocked = []plan.Blocked{{On: plan.ID{Kind: plan.KindInstance, Name: "web-1"}}}
	for _, w := range []plan.Desired{{}, unmade} {
		if got := plan.Unused(w, have, "me"); got != nil {
			t.Errorf("where not all is known that is wanted: %v", got)
		}
	}
}

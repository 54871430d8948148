package plan_test

import (
	"fmt"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// wide is a project of that many instances: services of ten replicas in chains of ten, each with a port.
func wide(instances int) plan.Project {
	p := plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog", Networks: []plan.Network{{Name: "default", Incus: "blog-default"}},
	}
	for i := range instances / 10 {
		s := plan.Service{
			Name: fmt.Sprintf("s%04d", i), Image: plan.ImageRef{Ref: "nginx:1.27"}, Replicas: 10,
			Networks: []plan.Attachment{{Network: "default"}},
			Ports:    []plan.Port{{Published: uint16(1000 + 10*i), PublishedEnd: uint16(1009 + 10*i), Target: 80, Protocol: "tcp"}},
		}
		if i%10 > 0 {
			s.DependsOn = []plan.Dependency{{Service: fmt.Sprintf("s%04d", i-1), Condition: "service_started"}}
		}

		p.Services = append(p.Services, s)
	}

	return p
}

// BenchmarkPlan is a whole decision, from the project to the plan: of a new stack, and of one that is as it should be.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		p, w, led := wide(n), newWorld(), newLedger()
		in := input(p, w.Observed, led)
		in.Segments["blog-default"], in.Addresses["blog-default"] = broad(p)
		in.Blocked = nil
		b.Run(fmt.Sprintf("new/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pl := plan.Diff(plan.Render(p, in), w.Observed, *led)
				if len(pl.Blocked) > 0 || len(pl.Steps) < n {
					b.Fatalf("%d steps, %d blocked", len(pl.Steps), len(pl.Blocked))
				}
			}
		})

		w.become(plan.Render(p, in), led)

		b.Run(fmt.Sprintf("converged/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pl := plan.Diff(plan.Render(p, in), w.Observed, *led)
				if !pl.Empty() {
					b.Fatal(pl)
				}
			}
		})
	}
}

// BenchmarkAllocate hands out the addresses of a network at once.
func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				broad(wide(n))
			}
		})
	}
}

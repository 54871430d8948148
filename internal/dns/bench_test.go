package dns

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// fleet is 5,000 instances in 500 services of 50 projects, each instance on two networks.
func fleet() ([]Network, []Record) {
	var nets []Network
	var recs []Record
	for p := range 50 {
		project := fmt.Sprint("p", p)
		for n := range 2 {
			base := netip.AddrFrom4([4]byte{10, byte(2*p + n), 0, 1})
			nets = append(nets, Network{
				Name: fmt.Sprint(project, "-n", n), Key: fmt.Sprint("n", n), Project: project,
				Prefix: netip.PrefixFrom(base, 16).Masked(), Gateway: base,
			})
		}
		for i := range 100 {
			r := Record{Project: project, Service: fmt.Sprint("s", i/10), Instance: fmt.Sprint("s", i/10, "-", i%10), Up: true}
			r.Ports = []Port{{Number: 80}}
			for n := range 2 {
				r.On = append(r.On, Interface{
					Network: fmt.Sprint(project, "-n", n), Addr: netip.AddrFrom4([4]byte{10, byte(2*p + n), 1, byte(i)}),
				})
			}
			recs = append(recs, r)
		}
	}
	return nets, recs
}

var epoch = time.Now()

// nanotime is a clock for measuring.
func nanotime() int64 { return int64(time.Since(epoch)) }

func BenchmarkBuild(b *testing.B) {
	nets, recs := fleet()
	for b.Loop() {
		Build("incus", 1, nets, recs)
	}
}

// BenchmarkD46OneChange is what a zone of 5,000 instances costs when one of them changes.
func BenchmarkD46OneChange(b *testing.B) {
	nets, recs := fleet()
	z := Build("incus", 1, nets, recs)
	for b.Loop() {
		recs[2500].Unready = !recs[2500].Unready
		z = z.Next(z.serial+1, nets, &Group{Records: recs})
	}
}

// BenchmarkD46OneChangeOfAStack is the same when the agent says which of fifty stacks it was.
func BenchmarkD46OneChangeOfAStack(b *testing.B) {
	nets, recs := fleet()
	var groups []*Group
	for i := range 50 {
		groups = append(groups, &Group{Name: fmt.Sprint(i), Records: recs[100*i : 100*i+100]})
	}
	z := Build("incus", 1, nets, nil).Next(2, nets, groups...)
	for b.Loop() {
		groups[25] = &Group{Name: "25", Records: groups[25].Records}
		groups[25].Records[50].Unready = !groups[25].Records[50].Unready
		z = z.Next(z.serial+1, nets, groups...)
	}
}

func TestD46HeapOfAFleet(t *testing.T) {
	nets, recs := fleet()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	z := Build("incus", 1, nets, recs)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 30<<20 {
		t.Errorf("a zone of %d names takes %d bytes", z.Names(), grown)
	} else {
		t.Logf("a zone of %d names takes %d KiB", z.Names(), grown>>10)
	}
	runtime.KeepAlive(recs)
}

package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/dns"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	macHand  = "10:66:6a:00:00:01"
	macLease = "10:66:6a:00:00:02"
	macThief = "10:66:6a:00:00:03"
)

// made is an instance that was made by hand.
func made(name, network, mac, static string) incus.Owned {
	i := plan.ObservedInstance{
		Status: plan.Running, Addresses: map[string]netip.Addr{},
		Config:  map[string]string{"volatile.eth0.hwaddr": mac},
		Devices: map[string]plan.Device{"eth0": {"type": "nic", "network": network}, "root": {"type": "disk"}},
	}
	if static != "" {
		i.Addresses["eth0"] = netip.MustParseAddr(static)
	}

	return incus.Owned{Project: "default", Name: name, Instance: i}
}

// TestD15InstancesMadeByHandHaveNames: by the address Incus gives them, by their lease, by what they use; never by one
// that somebody else has.
func TestD15InstancesMadeByHandHaveNames(t *testing.T) {
	g := &guests{changed: func() {}, owner: "me"}
	own := made("ours", "shop-default", "", "10.201.1.9")
	own.Instance.Config[plan.KeyOwner] = "me"
	g.take([]incus.Owned{
		made("fixed", "shop-default", "", "10.201.1.50"), made("hand", "shop-default", macHand, ""), own,
		made("thief", "shop-default", macThief, ""), made("elsewhere", "other", macHand, ""),
	})
	s := sight{views: []*apply.View{seen("web-1", "web-2")}, begun: true, subnets: oneSubnet, guests: g.get()}
	s.found.neighbours = map[string]map[string]netip.Addr{"shop-default": {
		macHand: netip.MustParseAddr("10.201.1.77"), macThief: netip.MustParseAddr("10.201.1.11"),
	}}
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	_, zone := z.next(s, time.Unix(1000, 0))
	for name, want := range map[string]string{
		"fixed.default.incus": "NOERROR [A 10.201.1.50]", "hand.default.incus": "NOERROR [A 10.201.1.77]",
		"thief.default.incus": "no data []", "elsewhere.default.incus": "NXDOMAIN []", "ours.default.incus": "NXDOMAIN []",
		"web.shop.incus": "NOERROR [A 10.201.1.11 A 10.201.1.12]",
	} {
		expect(t, name, verdict(t, zone, name), want)
	}
}

// TestD42NamesBesideDnsmasq: a stack on a bridge of others has its names at the service address, by leases; one on a
// network whose gateway is elsewhere is left alone.
func TestD42NamesBesideDnsmasq(t *testing.T) {
	v := seen("web-1", "web-2")
	v.Ledger.Addresses = nil
	v.Project.Networks[0] = plan.Network{Name: "default", Incus: "incusbr0", External: true}
	bridge := plan.ObservedNetwork{Type: "bridge", Managed: true, Config: map[string]string{"ipv4.address": "10.158.7.1/24"}}
	v.Observed.Networks = map[string]plan.ObservedNetwork{"incusbr0": bridge}
	for name, mac := range map[string]string{"web-1": macHand, "web-2": macLease} {
		v.Observed.Instances[name] = made(name, "incusbr0", mac, "").Instance
	}

	s := sight{views: []*apply.View{v}, begun: true}
	s.found.leases = map[string]map[string]netip.Addr{"incusbr0": {macLease: netip.MustParseAddr("10.158.7.20")}}
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	nets, zone := z.next(s, time.Unix(1000, 0))
	expect(t, "one has its lease", verdict(t, zone, "web.shop.incus"), "NOERROR [A 10.158.7.20]")
	at := (&Agent{}).addresses(nets)
	if len(at) != 1 || at[0].String() != "169.254.53.53:53" {
		t.Errorf("listens at %v", at)
	}

	for what, n := range map[string]plan.ObservedNetwork{
		"OVN":        {Type: "ovn", Managed: true, Config: bridge.Config},
		"unmanaged":  {Type: "bridge", Config: bridge.Config},
		"no address": {Type: "bridge", Managed: true, Config: map[string]string{"ipv4.address": "none"}},
	} {
		v.Observed.Networks["incusbr0"] = n
		nets, _ = z.next(s, time.Unix(1000, 0))
		if len(nets) != 0 {
			t.Errorf("%s: served as %+v", what, nets)
		}
	}
}

func verdict(t *testing.T, zone *dns.Zone, name string) string {
	t.Helper()
	e, err := zone.Explain(name, "", time.Unix(1000, 0))
	if err != nil {
		t.Fatal(err)
	}

	return e.Verdict + " " + fmt.Sprint(e.Answers)
}

// TestB4LeaseIsHeardOf without anybody asking for it.
func TestB4LeaseIsHeardOf(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "br0", "dnsmasq.leases")
	write := func(text string) {
		err := os.WriteFile(file, []byte(text), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	err := os.Mkdir(filepath.Dir(file), 0o755)
	if err != nil {
		t.Fatal(err)
	}

	write("")
	heard := make(chan struct{}, 16)
	l := newLeases(dir, func() { heard <- struct{}{} }, quiet())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	<-heard // it runs
	if got := l.of([]string{"br0", "br1"}); len(got["br0"]) != 0 || got["br1"] != nil {
		t.Errorf("leases of nobody: %v", got)
	}

	write("1795557282 10:66:6A:00:00:02 10.158.7.20 web-1 *\nduid 00:01\n1795557282 12 fd42::1 web-1 00:01\n")
	<-heard
	for l.of([]string{"br0"})["br0"][macLease].String() != "10.158.7.20" {
		<-heard // it was read half written
	}

	stop()
	err = <-done
	if err != nil {
		t.Errorf("Run: %v", err)
	}
}

// entry is a message of rtnetlink(7) about a neighbour.
func entry(typ uint16, link int32, state uint16, mac []byte, addr []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofNdMsg)
	binary.NativeEndian.PutUint16(b[4:], typ)
	b[16] = unix.AF_INET
	binary.NativeEndian.PutUint32(b[20:], uint32(link))
	binary.NativeEndian.PutUint16(b[24:], state)
	for kind, value := range map[uint16][]byte{unix.NDA_DST: addr, unix.NDA_LLADDR: mac} {
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, value...)
		for len(b)%4 > 0 {
			b = append(b, 0)
		}
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))

	return b
}

// TestB4Neighbours: what was confirmed once counts until it changes.
func TestB4Neighbours(t *testing.T) {
	n := &neighbours{all: map[int]map[string]netip.Addr{}}
	mac, addr := []byte{0x10, 0x66, 0x6a, 0, 0, 1}, []byte{10, 201, 1, 77}
	for _, tc := range []struct {
		what string
		msg  []byte
		news bool
		want string
	}{
		{"nobody has answered", entry(unix.RTM_NEWNEIGH, 7, unix.NUD_INCOMPLETE, mac, addr), false, "invalid IP"},
		{"reachable", entry(unix.RTM_NEWNEIGH, 7, unix.NUD_REACHABLE, mac, addr), true, "10.201.1.77"},
		{"again", entry(unix.RTM_NEWNEIGH, 7, unix.NUD_STALE, mac, addr), false, "10.201.1.77"},
		{"silent", entry(unix.RTM_DELNEIGH, 7, unix.NUD_FAILED, mac, addr), false, "10.201.1.77"},
		{"another address", entry(unix.RTM_NEWNEIGH, 7, unix.NUD_REACHABLE, mac, []byte{10, 201, 1, 78}), true, "10.201.1.78"},
		{"rubbish", []byte{1, 2, 3}, false, "10.201.1.78"},
		{"cut short", entry(unix.RTM_NEWNEIGH, 7, unix.NUD_REACHABLE, mac, []byte{10}), false, "10.201.1.78"},
	} {
		news := n.take(tc.msg)
		if got := n.all[7][macHand].String(); news != tc.news || got != tc.want {
			t.Errorf("%s: %s, news %v", tc.what, got, news)
		}
	}
}

// TestB4NeighboursOfThisHost are read, whatever they are, until it is to end.
func TestB4NeighboursOfThisHost(t *testing.T) {
	n := &neighbours{changed: func() {}, log: quiet(), all: map[int]map[string]netip.Addr{}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.follow(ctx) }()
	stop()
	err := <-done
	if ctx.Err() == nil && err != nil {
		t.Error(err)
	}

	if got := n.of([]string{"no-such-link"}); len(got) != 0 {
		t.Errorf("neighbours on no link: %v", got)
	}
}

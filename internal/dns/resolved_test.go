package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// resolvedTest is a systemd-resolved that remembers what it was told.
type resolvedTest struct {
	mu      sync.Mutex // guards what follows
	indexes map[string]int
	absent  bool
	refuse  string // a method that fails
	links   map[int32]map[string]any
	changes []string
	looks   int
}

func (r *resolvedTest) Close() error { return nil }

func (r *resolvedTest) index(name string) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.indexes[name]
	if !ok {
		return 0, errors.New("no such interface")
	}
	return i, nil
}

func (r *resolvedTest) Call(_ context.Context, _, method string, result []any, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	method = strings.TrimPrefix(method, resolvedCall)
	if method == hasOwner {
		r.looks++
		*result[0].(*bool) = !r.absent
		return nil
	}
	if r.absent || method == r.refuse {
		return errors.New("access denied")
	}
	switch method {
	case getProperty:
		*result[0].(*dbus.Variant) = dbus.MakeVariant(r.property(args[1].(string)))
		return nil
	}
	index := args[0].(int32)
	if method == "RevertLink" {
		delete(r.links, index)
		r.changes = append(r.changes, fmt.Sprint("revert ", index))
		return nil
	}
	if r.links[index] == nil {
		r.links[index] = map[string]any{}
	}
	r.links[index][strings.TrimPrefix(method, "SetLink")] = args[1]
	r.changes = append(r.changes, fmt.Sprint(method, " ", index))
	return nil
}

// change does something to it while nobody asks it.
func (r *resolvedTest) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// property is what all links were told, in the type it has.
func (r *resolvedTest) property(name string) any {
	servers, domains := []knownServer{}, []knownDomain{}
	for index, l := range r.links {
		told, _ := l["DNSEx"].([]linkServer)
		for _, s := range told {
			servers = append(servers, knownServer{index, s.Family, s.Address, s.Port, s.Name})
		}
		asked, _ := l["Domains"].([]linkDomain)
		for _, d := range asked {
			domains = append(domains, knownDomain{index, d.Domain, d.Routing})
		}
	}
	if name == "DNSEx" {
		return servers
	}
	return domains
}

func TestD41Resolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &resolvedTest{links: map[int32]map[string]any{}, indexes: map[string]int{"br0": 7, "br1": 8}}
		r := NewResolved(nil)
		r.dial = func(context.Context) (bus, error) { return fake, nil }
		r.index, r.news = fake.index, nil
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }() // its error is always nil
		changed := func(want ...string) {
			t.Helper()
			time.Sleep(resolvedRetry + time.Second)
			fake.mu.Lock()
			defer fake.mu.Unlock()
			if !slices.Equal(fake.changes, want) {
				t.Errorf("changes %q, want %q", fake.changes, want)
			}
			fake.changes = nil
		}
		all := func(index int) []string {
			var out []string
			for _, m := range []string{"DNSEx", "Domains", "DefaultRoute", "DNSSEC", "DNSOverTLS"} {
				out = append(out, fmt.Sprint("SetLink", m, " ", index))
			}
			return out
		}
		link := func(name string) Link {
			return Link{Interface: name, Servers: []netip.Addr{ip("10.1.0.1"), ip("fd00::1")}, Domains: []string{"incus"}}
		}
		r.Use([]Link{link("br0"), link("br2")})
		changed(all(7)...)
		want := map[string]any{
			"DNSEx":   []linkServer{{2, []byte{10, 1, 0, 1}, 0, ""}, {10, ip("fd00::1").AsSlice(), 0, ""}},
			"Domains": []linkDomain{{"incus", true}}, "DefaultRoute": false, "DNSSEC": "no", "DNSOverTLS": "no",
		}
		if diff := cmp.Diff(want, fake.links[7]); diff != "" {
			t.Error(diff)
		}
		changed() // nothing to do
		fake.change(func() { fake.indexes["br2"] = 9; fake.looks = 0 })
		r.hear("veth1")
		changed() // a link of others came
		if fake.looks > 0 {
			t.Error("looked for a link of others")
		}
		r.hear("br2")
		changed(all(9)...) // a bridge that came later
		fake.change(func() { delete(fake.links, 7) })
		r.hear("")
		changed(all(7)...) // it forgot, being started again
		fake.change(func() { fake.indexes["br0"] = 17 })
		r.hear("br0")
		changed(all(17)...) // the bridge was made anew
		fake.change(func() { delete(fake.links, 17) })
		changed() // somebody had it forget, of which there are no news
		time.Sleep(resolvedEvery)
		changed(all(17)...)
		r.Use([]Link{link("br0")})
		changed("revert 9")
		fake.change(func() { fake.refuse = "SetLinkDomains" })
		r.Use([]Link{link("br0"), link("br1")})
		changed("SetLinkDNSEx 8", "SetLinkDNSEx 8")
		present, err := r.Status()
		if !present || err == nil || !strings.Contains(err.Error(), "SetLinkDomains of br1") {
			t.Errorf("status %t, %v", present, err)
		}
		fake.change(func() { fake.absent = true })
		changed()
		present, err = r.Status()
		if present || err != nil {
			t.Errorf("without resolved: %t, %v", present, err)
		}
		stop()
		synctest.Wait()
	})
}

// On a bridge of others the host is led to our own port, unless somebody else said something about that bridge.
func TestD41BridgesOfOthers(t *testing.T) {
	fake := &resolvedTest{links: map[int32]map[string]any{}, indexes: map[string]int{"br0": 7, "br1": 8}}
	fake.links[8] = map[string]any{"DNSEx": []linkServer{{2, []byte{10, 2, 0, 1}, 0, ""}}}
	r := NewResolved(nil)
	r.dial = func(context.Context) (bus, error) { return fake, nil }
	r.index = fake.index
	links := Links("incus", []Network{
		{Name: "br0", Project: "default", Prefix: pfx("10.1.0.0/24"), Beside: netip.MustParseAddrPort("10.1.0.1:53053")},
		{Name: "br1", Project: "default", Prefix: pfx("10.2.0.0/24"), Beside: netip.MustParseAddrPort("10.2.0.1:53053")},
	})
	r.Use(links)
	r.once(t.Context())
	want := map[string]any{
		"DNSEx": []linkServer{{2, []byte{10, 1, 0, 1}, 53053, ""}}, "DefaultRoute": false, "DNSSEC": "no", "DNSOverTLS": "no",
		"Domains": []linkDomain{{"default.incus", true}, {"0.1.10.in-addr.arpa", true}, {"incus", true}},
	}
	if diff := cmp.Diff(want, fake.links[7]); diff != "" {
		t.Error(diff)
	}
	if len(fake.links[8]) != 1 {
		t.Errorf("what others said is %v", fake.links[8])
	}
	// What an agent before said is its own to change.
	fake.changes = nil
	again := NewResolved(nil)
	again.dial, again.index = r.dial, r.index
	links[0].Domains = []string{"incus"}
	again.Use(links)
	again.once(t.Context())
	if got := fmt.Sprint(fake.links[7]["Domains"]); got != "[{incus true}]" {
		t.Errorf("the domains are %s", got)
	}
	again.Withdraw(t.Context())
	if fake.links[7] != nil || fake.links[8] == nil {
		t.Errorf("afterwards: %v", fake.links)
	}
}

func TestD41Links(t *testing.T) {
	nets := append([]Network{}, testNets...)
	nets[3].Gateway = netip.Addr{}
	got := fmt.Sprint(Links("incus.", nets))
	var edge []string
	for i := range 16 {
		edge = append(edge, fmt.Sprintf("%d.3.10.in-addr.arpa", i))
	}
	want := "[{shop-front [10.1.0.1 fd00:1::1] 0 false [shop.incus 0.1.10.in-addr.arpa 0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa incus]} " +
		"{shop-back [10.2.0.1] 0 false [shop.incus 0.2.10.in-addr.arpa]} {edge [10.3.0.1] 0 false [shop.incus " + strings.Join(edge, " ") + "]}]"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for prefix, want := range map[string]string{
		"10.0.0.0/8": "[10.in-addr.arpa]", "10.1.2.128/25": "[2.1.10.in-addr.arpa]", "192.168.2.0/23": "[2.168.192.in-addr.arpa 3.168.192.in-addr.arpa]",
	} {
		if got := fmt.Sprint(reverseZones(pfx(prefix))); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

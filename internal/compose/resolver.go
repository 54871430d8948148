package compose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// extraHosts reads names with addresses; host-gateway is the host.
func (s *service) extraHosts() {
	for _, name := range slices.Sorted(maps.Keys(s.in.ExtraHosts)) {
		at := s.t.listed(s.key+".extra_hosts", name)
		if !isHostName(name) {
			s.t.refuseAt(at, s.key+".extra_hosts", fmt.Sprintf("%q is not a host name", clip(name)), "use letters, digits, hyphens and dots")
		}

		for _, text := range s.in.ExtraHosts[name] {
			h := plan.ExtraHost{Name: name}
			a, err := netip.ParseAddr(text)
			switch {
			case err == nil:
				h.Addr = a
			case text != "host-gateway":
				s.t.refuseAt(at, s.key+".extra_hosts", fmt.Sprintf("%q is not an address", clip(text)), "write an address, or host-gateway for the host")
			}

			s.out.ExtraHosts = append(s.out.ExtraHosts, h)
		}
	}
}

func isHostName(name string) bool {
	return name != "" && len(name) <= 253 && !strings.ContainsAny(name, " \t\n,=/:#\"'\\")
}

func (s *service) domainname() {
	s.out.Domainname = s.in.DomainName
	if s.in.DomainName != "" && !isHostName(s.in.DomainName) {
		s.refuse("domainname", fmt.Sprintf("%q is not a domain", clip(s.in.DomainName)), "use letters, digits, hyphens and dots")
	}
}

// dns reads the servers that are asked for what is not ours.
func (s *service) dns() {
	for _, text := range s.in.DNS {
		a, err := netip.ParseAddr(text)
		if err != nil {
			s.refuse("dns", fmt.Sprintf("%q is not an address", clip(text)), "write addresses of DNS servers")
			continue
		}

		s.out.Resolver.Upstreams = append(s.out.Resolver.Upstreams, netip.AddrPortFrom(a, 53))
	}
}

func (s *service) dnsSearch() {
	for _, d := range s.in.DNSSearch {
		if d != "." && !isHostName(d) {
			s.refuse("dns_search", fmt.Sprintf("%q is not a domain", clip(d)), "use letters, digits, hyphens and dots")
		}

		s.out.Resolver.Search = append(s.out.Resolver.Search, d)
	}
}

func (s *service) dnsOpt() {
	for _, opt := range s.in.DNSOpts {
		if opt == "" || strings.ContainsAny(opt, " \t\n#") {
			s.refuse("dns_opt", fmt.Sprintf("%q is not an option of resolv.conf", clip(opt)), `write "ndots:2", "timeout:3" …`)
		}

		s.out.Resolver.Options = append(s.out.Resolver.Options, opt)
	}
}

// alias gives the name after a link's colon to the other service, on the networks they share.
func (t *translation) linkAliases() {
	for _, name := range slices.Sorted(maps.Keys(t.project.Services)) {
		for _, l := range t.project.Services[name].Links {
			target, alias, _ := strings.Cut(l, ":")
			if alias != "" && alias != target {
				t.linkAlias(name, target, alias)
			}
		}
	}
}

func (t *translation) linkAlias(from, to, alias string) {
	i := slices.IndexFunc(t.out.Services, func(s plan.Service) bool { return s.Name == from })
	j := slices.IndexFunc(t.out.Services, func(s plan.Service) bool { return s.Name == to })
	if i < 0 || j < 0 {
		return // check has refused it
	}

	if !isHostName(alias) {
		t.refuse("services."+from+".links", fmt.Sprintf("%q is not a host name", clip(alias)), "use letters, digits, hyphens and dots")
	}

	for k := range t.out.Services[j].Networks {
		a := &t.out.Services[j].Networks[k]
		shared := slices.ContainsFunc(t.out.Services[i].Networks, func(other plan.Attachment) bool { return other.Network == a.Network })
		if shared && !slices.Contains(a.Aliases, alias) {
			a.Aliases = append(a.Aliases, alias)
			slices.Sort(a.Aliases)
		}
	}
}

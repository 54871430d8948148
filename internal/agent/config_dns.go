package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/dns"
)

// DNSSettings are the table [dns] of agent.toml.
type DNSSettings struct {
	// Domain is the zone of all stacks; empty means "incus".
	Domain string `toml:"domain"`
	// Upstreams are asked what is not ours, as "address" or "address:port"; empty follows the host's
	// resolv.conf.
	Upstreams []string `toml:"upstreams"`
	// Networks are upstreams of one network each, by the name it has in Incus.
	Networks map[string][]string `toml:"networks"`
	// TTL is how many seconds our answers may be kept, at most 60; nil means 5.
	TTL *int `toml:"ttl"`
	// Host is whether systemd-resolved is told where the host finds our names; nil means yes.
	Host *bool `toml:"host"`
	// BlockPrivate answers foreign names that point into private address space with no data, but for the
	// domains of AllowPrivate and what is below them.
	BlockPrivate bool     `toml:"block_private"`
	AllowPrivate []string `toml:"allow_private"`
	// ForwardsPerSecond is how many questions of one client go upstream in a second, AnswersPerSecond how many
	// are answered at all; 0 does not limit, nil means 300 and no limit.
	ForwardsPerSecond *int `toml:"forwards_per_second"`
	AnswersPerSecond  *int `toml:"answers_per_second"`
	// LogEvery has one question of so many written to the journal; 0 means none.
	LogEvery int `toml:"log_every"`
	// Relays are the addresses and ranges of name servers that are believed whom they ask for; empty means nobody.
	Relays []string `toml:"relays"`
	// Transfer are the addresses and ranges that may have whole zones; empty means nobody.
	Transfer []string `toml:"transfer"`
	// LAN is about machines beyond our networks.
	LAN struct {
		// Listen are the host's addresses they ask at; empty means none.
		Listen []string `toml:"listen"`
		// Allow are the addresses and ranges that may ask.
		Allow []string `toml:"allow"`
	} `toml:"lan"`
}

// dnsConfig is what the settings mean.
type dnsConfig struct {
	options  dns.Options
	networks map[string][]netip.AddrPort
	ttl      uint32
	host     bool
}

// usualTTL is how long an answer of ours may be kept, in seconds, longestTTL the most that is taken for it.
const (
	usualTTL   = 5
	longestTTL = 60
)

// burst is how many seconds' worth of its limit a client may ask at once.
const burst = 3

// read checks the table. Its errors name the key.
func (s DNSSettings) read() (dnsConfig, error) {
	c := dnsConfig{networks: map[string][]netip.AddrPort{}, ttl: usualTTL, host: s.Host == nil || *s.Host}
	o := &c.options
	if s.TTL != nil {
		if *s.TTL < 0 || *s.TTL > longestTTL {
			return c, fmt.Errorf("dns.ttl: %d is not between 0 and %d seconds", *s.TTL, longestTTL)
		}

		c.ttl = uint32(*s.TTL)
	}

	if s.LogEvery < 0 {
		return c, fmt.Errorf("dns.log_every: %d is less than 0: write 0 for none, 1 for every question", s.LogEvery)
	}

	o.LogEvery = s.LogEvery
	o.Rebinding = dns.Rebinding{Block: s.BlockPrivate, Allow: s.AllowPrivate}
	if len(s.AllowPrivate) > 0 && !s.BlockPrivate {
		return c, fmt.Errorf("dns.allow_private: means nothing without dns.block_private = true")
	}

	err := s.rates(o)
	if err != nil {
		return c, err
	}

	o.Upstreams, err = servers("dns.upstreams", s.Upstreams)
	if err != nil {
		return c, err
	}

	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		c.networks[name], err = servers("dns.networks."+name, s.Networks[name])
		if err != nil {
			return c, err
		}
	}

	o.Relays, err = ranges("dns.relays", s.Relays)
	if err != nil {
		return c, err
	}

	o.Transfer, err = ranges("dns.transfer", s.Transfer)
	if err != nil {
		return c, err
	}

	return c, s.lan(o)
}

// rates reads the limits of clients. A negative rate is dns's word for none.
func (s DNSSettings) rates(o *dns.Options) error {
	for _, r := range []struct {
		key  string
		says *int
		into *dns.Rate
	}{
		{"dns.forwards_per_second", s.ForwardsPerSecond, &o.Forwards},
		{"dns.answers_per_second", s.AnswersPerSecond, &o.Answers},
	} {
		switch {
		case r.says == nil:
		case *r.says < 0:
			return fmt.Errorf("%s: %d is less than 0: write 0 for no limit", r.key, *r.says)
		case *r.says == 0:
			*r.into = dns.Rate{PerSecond: -1}
		default:
			*r.into = dns.Rate{PerSecond: float64(*r.says), Burst: burst * float64(*r.says)}
		}
	}

	return nil
}

// lan reads the listeners for the LAN. An address without anybody who may ask, or the other way round, is a
// mistake, and one that stands for all addresses would take the bridges away from our own.
func (s DNSSettings) lan(o *dns.Options) error {
	listen, err := servers("dns.lan.listen", s.LAN.Listen)
	if err != nil {
		return err
	}

	allow, err := ranges("dns.lan.allow", s.LAN.Allow)
	if err != nil {
		return err
	}

	for _, a := range listen {
		if a.Addr().IsUnspecified() {
			return fmt.Errorf("dns.lan.listen: %s stands for every address: name the host's address on the LAN", a.Addr())
		}
	}

	switch {
	case len(listen) > 0 && len(allow) == 0:
		return fmt.Errorf("dns.lan.allow: empty, so that nobody may ask at %s: name the LAN's range, such as 192.168.1.0/24", listen[0])
	case len(listen) == 0 && len(allow) > 0:
		return fmt.Errorf("dns.lan.listen: empty, so that dns.lan.allow means nothing: name the host's address on the LAN")
	}

	o.LAN = dns.LAN{Addrs: listen, Allow: allow}

	return nil
}

// servers reads addresses with or without a port.
func servers(key string, texts []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range texts {
		ap, err := netip.ParseAddrPort(text)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(text)
			ap = netip.AddrPortFrom(a, 53)
		}

		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an address, such as 192.0.2.1 or 192.0.2.1:53", key, text)
		}

		out = append(out, ap)
	}

	return out, nil
}

// ranges reads addresses and ranges of them.
func ranges(key string, texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(text)
			p = netip.PrefixFrom(a, a.BitLen())
		}

		if err != nil {
			return nil, fmt.Errorf("%s: %q is not an address or a range, such as 192.168.1.0/24", key, text)
		}

		out = append(out, p.Masked())
	}

	return out, nil
}

func (s Settings) domain() string {
	if s.DNS.Domain == "" {
		return "incus"
	}

	return strings.Trim(s.DNS.Domain, ".")
}

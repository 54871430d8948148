package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"sync"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/publish"
)

// ownerID is the id this host's agent marks its objects with: derived from the machine id, so that it survives
// the loss of the agent's state, and hashed, so that it does not tell it (machine-id(5) asks for that).
func ownerID(machineIDPath string) (string, error) {
	b, err := os.ReadFile(machineIDPath)
	if err != nil {
		return "", fmt.Errorf("read the machine id: %w", err)
	}

	id := strings.TrimSpace(string(b))
	if len(id) < 32 {
		return "", fmt.Errorf("the machine id in %s is not set: run systemd-machine-id-setup, or set owner in agent.toml", machineIDPath)
	}

	mac := hmac.New(sha256.New, []byte(id))
	mac.Write([]byte("ic-agent owner"))

	return hex.EncodeToString(mac.Sum(nil))[:16], nil
}

// selfName is the user name Incus sees the agent under.
func selfName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}

	return u.Username
}

// bootID names the present run of the host (random(4), boot_id); empty when it cannot be read.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}

	return strings.TrimSpace(string(b))
}

// hostPrefixes lists the networks the host is on or has a route to, the default route aside. What cannot be
// read is left out: Incus refuses a real overlap itself.
func hostPrefixes() []netip.Prefix {
	var out []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			p, perr := netip.ParsePrefix(a.String())
			if perr == nil && p.Addr().Is4() {
				out = append(out, p.Masked())
			}
		}
	}

	return append(out, routes()...)
}

// routes reads the IPv4 routes over netlink (rtnetlink(7)): the sandbox hides /proc/net.
func routes() []netip.Prefix {
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETROUTE, syscall.AF_INET)
	if err != nil {
		return nil
	}

	msgs, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil
	}

	var out []netip.Prefix
	for _, m := range msgs {
		if m.Header.Type != syscall.RTM_NEWROUTE || len(m.Data) < syscall.SizeofRtMsg {
			continue
		}

		bits := int(m.Data[1]) // rtm_dst_len
		attrs, aerr := syscall.ParseNetlinkRouteAttr(&m)
		if aerr != nil || bits == 0 {
			continue
		}

		for _, a := range attrs {
			if a.Attr.Type == syscall.RTA_DST && len(a.Value) == 4 {
				out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte(a.Value)), bits).Masked())
			}
		}
	}

	return out
}

// ports knows which stack publishes which host ports.
type ports struct {
	mu     sync.Mutex
	claims map[string][]plan.Listen
	// probe tries a listener that nobody claims; it returns who holds it, or "".
	probe func(ctx context.Context, l plan.Listen) string
}

// claim notes all ports a stack publishes and returns, of the fresh ones, those that somebody else has.
func (p *ports) claim(ctx context.Context, stack string, all, fresh []plan.Listen) map[plan.Listen]string {
	p.mu.Lock()
	defer p.mu.Unlock()

	held := map[plan.Listen]string{}
	var mine []plan.Listen
	for _, l := range all {
		other := p.holder(stack, l)
		if other != "" {
			held[l] = "the stack " + other
			continue
		}

		mine = append(mine, l)
	}

	if p.claims == nil {
		p.claims = map[string][]plan.Listen{}
	}

	p.claims[stack] = mine
	for _, l := range fresh {
		if held[l] != "" {
			continue
		}

		who := p.probe(ctx, l)
		if who != "" {
			held[l] = who
		}
	}

	return held
}

func (p *ports) holder(stack string, l plan.Listen) string {
	for other, claims := range p.claims {
		if other == stack {
			continue
		}

		for _, c := range claims {
			same := c.IP == l.IP || c.IP.IsUnspecified() || l.IP.IsUnspecified()
			if c.Protocol == l.Protocol && c.Port == l.Port && same {
				return other
			}
		}
	}

	return ""
}

// release forgets a stack's ports.
func (p *ports) release(stack string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	delete(p.claims, stack)
}

// probePort asks whether a stranger has a port; one that we carry on loopback ourselves is none.
func (a *Agent) probePort(ctx context.Context, l plan.Listen) string {
	if a.local.Holds(publish.Port{Protocol: l.Protocol, Number: l.Port}) {
		return ""
	}

	return bindProbe(ctx, l)
}

// forwards lists the loopback ports of the instances that run.
func forwards(views []*apply.View) map[publish.Port]netip.AddrPort {
	out := map[publish.Port]netip.AddrPort{}
	for _, v := range views {
		for _, w := range v.Desired.Instances {
			if v.Observed.Instances[w.Name].Status != plan.Running {
				continue
			}

			for _, f := range w.Forwards {
				out[publish.Port{Protocol: f.Protocol, Number: f.Port}] = f.To
			}
		}
	}

	return out
}

// bindProbe finds a listener of another program by trying to be one.
func bindProbe(ctx context.Context, l plan.Listen) string {
	addr := netip.AddrPortFrom(l.IP, l.Port).String()
	var lc net.ListenConfig

	var c interface{ Close() error }
	var err error
	if l.Protocol == "udp" {
		c, err = lc.ListenPacket(ctx, "udp", addr)
	} else {
		c, err = lc.Listen(ctx, "tcp", addr)
	}

	switch {
	case err == nil:
		_ = c.Close()
		return ""
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program on this host (\"ss -lntup\" shows it)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "nobody, but the host has no address " + l.IP.String()
	}

	return "" // not allowed to try: Incus finds out
}

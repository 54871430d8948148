package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
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
			if perr == nil && !p.Addr().IsLinkLocalUnicast() {
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

// look tells what the host has at a path, where the agent's sandbox and rights show it.
func look(path string) plan.HostPath {
	for _, private := range []string{"/tmp", "/var/tmp", "/dev", "/proc", "/sys"} {
		if path == private || strings.HasPrefix(path, private+"/") {
			return ""
		}
	}

	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return plan.HostMissing
	case err != nil:
		return ""
	case info.IsDir() && branches(table(), path):
		return plan.HostTree
	case info.IsDir():
		return plan.HostDir
	}

	return plan.HostFile
}

// pool6 is where the IPv6 subnets of this host come from: a unique local prefix (RFC 4193) of its own.
func pool6(owner string) netip.Prefix {
	sum := sha256.Sum256([]byte("ic-agent ipv6 " + owner))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:6], sum[:])

	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// exit asks Incus how a stopped instance ended.
func (a *Agent) exit(ctx context.Context, project, instance string) (code int, known bool, err error) {
	e, err := a.incus.ExitOf(ctx, project, instance)

	return e.Code, e.Known, err
}

// refused tells what a version of a service asks for in vain from what is wrong with the host.
func refused(err error) bool {
	return errors.Is(err, incus.ErrRefused) || errors.Is(err, incus.ErrProgram)
}

func rootless(err error) bool { return errors.Is(err, incus.ErrRootless) }

package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// taken is how an adopted instance differs whose content is what the file asks for: in notes at most. The rest, how
// we run an app, comes with its next restart.
func (d *differ) taken(w DesiredInstance, have ObservedInstance) changes {
	c := changes{config: map[string]string{}}
	for k, v := range w.Config {
		if (strings.HasPrefix(k, keyHealthPrefix) || strings.HasPrefix(k, "user.label.")) && have.Config[k] != v {
			c.config[k] = v
		}
	}

	id := ID{KindInstance, w.Name}
	d.settle(id, c.config)
	d.plan.Warnings = append(d.plan.Warnings, Warning{
		Key: id.String(), Text: "it runs as it was made before it was adopted; its next restart by a change makes it ours",
	})

	return c
}

// Disagreements says in what an instance that somebody else made differs from what is wanted, where an app, its
// data or its clients would notice; nothing when in nothing.
func Disagreements(w DesiredInstance, have ObservedInstance) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if have.Fingerprint != w.Image.Fingerprint {
		say("the image is another one")
	}

	for _, k := range environmentOf(w, have) {
		say("%s is %q, the file says %q", k, have.Config[k], w.Config[k])
	}

	if !slices.Equal(splitWords(have.Config["oci.entrypoint"]), splitWords(w.Config["oci.entrypoint"])) {
		say("its command is %s, the file says %s", have.Config["oci.entrypoint"], w.Config["oci.entrypoint"])
	}

	for _, k := range [][2]string{{"oci.cwd", "/"}, {"oci.uid", "0"}, {"oci.gid", "0"}} {
		if cmp.Or(have.Config[k[0]], k[1]) != cmp.Or(w.Config[k[0]], k[1]) {
			say("%s is %q, the file says %q", k[0], have.Config[k[0]], w.Config[k[0]])
		}
	}

	for _, kind := range []struct {
		noun  string
		parts func(devices map[string]Device) []string
	}{{"mounts", mountsOf}, {"networks", networksOf}, {"ports", portsOf}} {
		old, now := kind.parts(have.Devices), kind.parts(allDevices(w))
		if !slices.Equal(old, now) {
			say("its %s are %s, the file says %s", kind.noun, listed(old), listed(now))
		}
	}

	if unaddressed(w, have) {
		say("its address came from a dnsmasq that its network has no more")
	}

	for _, k := range slices.Sorted(maps.Keys(w.Config)) {
		for _, prefix := range []string{"limits.", "security.", "linux."} {
			if strings.HasPrefix(k, prefix) && have.Config[k] != w.Config[k] {
				say("%s is %q, the file says %q", k, have.Config[k], w.Config[k])
			}
		}
	}

	if len(w.Files) > 0 {
		say("its config files are written")
	}

	return out
}

// unaddressed reports whether an instance has a NIC without a static address on a network where we hand them out.
func unaddressed(w DesiredInstance, have ObservedInstance) bool {
	static := map[string]bool{}
	for _, dev := range have.Devices {
		static[dev["network"]] = static[dev["network"]] || dev["ipv4.address"] != ""
	}

	for _, dev := range w.Devices {
		if dev["type"] == "nic" && strings.Contains(dev["ipv4.address"], "/") && !static[dev["network"]] {
			return true
		}
	}

	return false
}

func listed(parts []string) string {
	if len(parts) == 0 {
		return "none"
	}

	return strings.Join(parts, ", ")
}

// environmentOf names the variables that differ. Those of the image are there although no key says so.
func environmentOf(w DesiredInstance, have ObservedInstance) []string {
	var out []string
	for k, v := range w.Config {
		name, is := strings.CutPrefix(k, "environment.")
		old, there := have.Config[k]
		if is && old != v && (there || w.Image.Env[name] != v) {
			out = append(out, k)
		}
	}

	for k := range have.Config {
		_, wanted := w.Config[k]
		if strings.HasPrefix(k, "environment.") && !wanted {
			out = append(out, k)
		}
	}

	slices.Sort(out)

	return out
}

func mountsOf(devices map[string]Device) []string {
	var out []string
	for _, dev := range devices {
		if dev["type"] != "disk" || dev["path"] == "/" {
			continue
		}

		mode := ""
		if dev["readonly"] == "true" {
			mode = ":ro"
		}

		out = append(out, dev["source"]+":"+dev["path"]+mode)
	}

	slices.Sort(out)

	return out
}

func networksOf(devices map[string]Device) []string {
	var out []string
	for _, dev := range devices {
		if dev["type"] == "nic" {
			out = append(out, dev["network"])
		}
	}

	slices.Sort(out)

	return out
}

// portsOf lists the published ports, "tcp *:80 → 8080".
func portsOf(devices map[string]Device) []string {
	var out []string
	for _, dev := range devices {
		if dev["type"] != "proxy" {
			continue
		}

		proto, ip, ports := endpoint(dev["listen"])
		_, _, targets := endpoint(dev["connect"])
		for i, p := range ports {
			target := ""
			if len(targets) > 0 {
				target = targets[min(i, len(targets)-1)]
			}

			if ip == "0.0.0.0" || ip == "[::]" || ip == "::" {
				ip = "*"
			}

			out = append(out, proto+" "+ip+":"+p+" → "+target)
		}
	}

	slices.Sort(out)

	return slices.Compact(out)
}

// endpoint splits "tcp:0.0.0.0:80,8000-8002".
func endpoint(s string) (proto, ip string, ports []string) {
	proto, rest, _ := strings.Cut(s, ":")
	i := strings.LastIndex(rest, ":")
	if i < 0 {
		return proto, rest, nil
	}

	for part := range strings.SplitSeq(rest[i+1:], ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if !ranged || err != nil || err2 != nil || to < from || to > 65535 {
			ports = append(ports, part)
			continue
		}

		for p := from; p <= to; p++ {
			ports = append(ports, strconv.Itoa(p))
		}
	}

	return proto, rest[:i], ports
}

// splitWords reads words as a shell would that knows quotes and backslashes only, which is how oci.entrypoint is
// written.
func splitWords(s string) []string {
	var words []string
	var word strings.Builder
	quote, open := rune(0), false
	escaped := false
	for _, c := range s {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, open = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, open = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(c)
			open = true
		}
	}

	if open {
		words = append(words, word.String())
	}

	return words
}

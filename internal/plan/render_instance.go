package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const defaultGrace = 10 * time.Second

// instance renders one replica of a service.
func (r *renderer) instance(s Service, index int, name string, img Image) (DesiredInstance, error) {
	user := s.Process.User
	uid, gid, err := ResolveUser(user, img)
	if err != nil {
		return DesiredInstance{}, fmt.Errorf("user %q: %w", user, err)
	}

	l, err := s.launch(img, uid)
	if err != nil {
		return DesiredInstance{}, err
	}

	d := DesiredInstance{
		Name: name, Service: s.Name, Image: img, At: s.At, Needs: s.DependsOn, Grace: s.Process.StopGrace,
		Lasting: s.Restart == "always" || s.Restart == "unless-stopped", Origins: maps.Clone(s.Origins),
		OnChange: s.OnChange, ChangeSignal: cmp.Or(s.ChangeSignal, "SIGHUP"),
	}
	if d.Origins == nil {
		d.Origins = map[string]Place{}
	}

	if d.Grace == 0 {
		d.Grace = defaultGrace
	}

	gids, err := resolveGroups(s.Sandbox.Groups, img)
	if err != nil {
		return DesiredInstance{}, err
	}

	d.Config, err = r.config(s, index, d, l, uid, gid)
	if err != nil {
		return DesiredInstance{}, err
	}

	d.Config["raw.lxc"] += s.Sandbox.lxc(s.Config["security.privileged"] == "true", gids) + r.hostNetwork(s, name) + r.overMounts(s, &d)
	mountPoints(s, &d)

	r.files(&d)
	d.Placed, d.PlacedHash = placed(l.files(s), uid, gid)

	err = r.devices(&d, s, index, [2]uint32{uid, gid})
	if err != nil {
		return DesiredInstance{}, err
	}

	err = d.launcher(l)
	if err != nil {
		return DesiredInstance{}, err
	}

	err = native(&d, s.Process)
	if err != nil {
		return DesiredInstance{}, err
	}

	maps.Copy(d.Config, s.XIncus)
	r.seal(&d)

	return d, nil
}

// config is everything but devices and bookkeeping.
func (r *renderer) config(s Service, index int, d DesiredInstance, l launch, uid, gid uint32) (map[string]string, error) {
	signal, err := stopSignal(s.Process, d.Image)
	if err != nil {
		return nil, err
	}

	cwd := cmp.Or(s.Process.Cwd, d.Image.Cwd, "/")
	c := map[string]string{
		"oci.entrypoint":             shellWords(l.argv),
		"oci.cwd":                    cwd,
		"oci.uid":                    strconv.FormatUint(uint64(uid), 10),
		"oci.gid":                    strconv.FormatUint(uint64(gid), 10),
		"raw.lxc":                    rawLXC(s, l, signal),
		"boot.host_shutdown_timeout": strconv.Itoa(int((d.Grace + time.Second - 1) / time.Second)),
		KeyManaged:                   "true",
		KeyImageAlias:                d.Image.Ref,
		KeyComposeProject:            r.p.Name,
		KeyComposeService:            s.Name,
		KeyOwner:                     r.in.Owner,
		KeyStack:                     r.p.Stack,
		KeyService:                   s.Name,
		KeyIndex:                     strconv.Itoa(index),
		KeyImage:                     Pinned(d.Image),
	}

	for k, v := range l.env {
		c["environment."+k] = v
	}

	for key, list := range map[string][]Hook{KeyPostStart: s.PostStart, KeyPreStop: s.PreStop} {
		value, err := hooks(list, d.Image, uid, gid, cwd, l)
		if err != nil {
			return nil, err
		}

		if value != "" {
			c[key] = value
		}
	}

	if s.Protect || r.p.Protect {
		c[KeyProtect] = "true"
	}

	switch s.Restart {
	case "always":
		c["boot.autostart"] = "true"
	case "no":
		c["boot.autostart"] = "false"
	}

	maps.Copy(c, r.order.keys(s.Name))
	maps.Copy(c, s.Config)
	inheritHealth(c, s, d.Image)
	needs := needsHealthy(s)
	if needs != "" {
		c[KeyNeeds] = needs
	}

	return c, nil
}

// needsHealthy names the services that one waits for to be healthy.
func needsHealthy(s Service) string {
	var needs []string
	for _, dep := range s.DependsOn {
		if dep.Condition == "service_healthy" {
			needs = append(needs, dep.Service)
		}
	}

	return strings.Join(needs, " ")
}

// Pinned is "ref@digest", once.
func Pinned(img Image) string {
	ref, _, _ := strings.Cut(img.Ref, "@")

	return ref + "@" + img.Digest
}

// rawLXC makes the app PID 1, so that it gets its stop signal, the whole grace period, and is seen exiting
// with its own code; with init, liblxc's own init stays in front of it.
func rawLXC(s Service, l launch, signal string) string {
	var b strings.Builder
	if !s.Process.Init {
		line, _ := initCmd(l.argv)
		b.WriteString("lxc.execute.cmd =\nlxc.init.cmd = " + line + "\n")
	}

	b.WriteString("lxc.signal.halt = " + signal + "\nlxc.log.level = info\n")
	if s.Hostname != "" {
		b.WriteString("lxc.uts.name = " + s.Hostname + "\n")
	}

	return b.String() + l.mark()
}

// shellWords writes argv the way Incus splits oci.entrypoint. Line breaks, which it refuses, never get here:
// such words are the launcher's.
func shellWords(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " \t'\"\\$`*?[]{}()<>|&;#~!") {
			words[i] = shellQuote(a)
		}
	}

	return strings.Join(words, " ")
}

// files gives those that are pushed the hash they are known by.
func (r *renderer) files(d *DesiredInstance) {
	if len(d.Files) == 0 {
		return
	}

	slices.SortFunc(d.Files, func(a, b File) int { return strings.Compare(a.Target, b.Target) })
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", d.Image.Fingerprint)
	hashFiles(h, d.Files)
	d.FilesHash = hex.EncodeToString(h.Sum(nil))[:32]
}

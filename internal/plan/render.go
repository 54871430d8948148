package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Render spells a project out: every key and device Incus is to have. It is pure; the same project and input
// give the same result.
func Render(p Project, in Input) Desired {
	r := renderer{p: p, in: in, networks: map[string]Network{}, volumes: map[string]Volume{}, seeds: map[string][]Seed{}, order: orderOf(p.Services)}
	d := Desired{
		Owner: in.Owner, Stack: p.Stack, Name: p.Name, Incus: p.Incus, Source: p.Source, Drift: p.Drift,
		Config: r.project(), Warnings: slices.Clone(p.Warnings), Blocked: slices.Clone(in.Blocked),
	}

	r.blocked = make(map[ID]bool, len(d.Blocked))
	for _, b := range d.Blocked {
		r.blocked[b.On] = true
	}

	for _, n := range p.Networks {
		r.networks[n.Name] = n
		d.Networks = append(d.Networks, r.network(n))
	}

	for _, v := range p.Volumes {
		r.volumes[v.Name] = v
		d.Warnings = append(d.Warnings, r.moved(v)...)
	}

	replicas := 0
	for _, s := range p.Services {
		replicas += s.Replicas
	}

	d.Instances = slices.Grow(d.Instances, replicas)
	for _, s := range p.Services {
		for i := 1; i <= s.Replicas; i++ {
			r.service(&d, s, i)
		}
	}

	for _, v := range p.Volumes {
		d.Volumes = append(d.Volumes, r.volume(v))
	}

	d.Warnings = append(d.Warnings, r.warnings...)
	d.Volumes = append(d.Volumes, r.anonymous...)
	for i, v := range d.Volumes {
		if !v.External {
			d.Volumes[i].Seeds = r.seeds[v.Pool+"/"+v.Name]
		}
	}

	slices.SortFunc(d.Volumes, func(a, b DesiredVolume) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(d.Blocked, func(a, b Blocked) int {
		return strings.Compare(a.On.String()+"\x00"+a.Reason, b.On.String()+"\x00"+b.Reason)
	})

	return d
}

type renderer struct {
	p         Project
	in        Input
	networks  map[string]Network
	volumes   map[string]Volume
	owners    map[string][2]uint32
	anonymous []DesiredVolume
	// seeds are where fresh volumes get their files from, by "pool/name".
	seeds   map[string][]Seed
	order   order
	blocked map[ID]bool
	// warnings are those that only the host's state gives rise to.
	warnings []Warning
	json     []byte // room for what is hashed
}

// service renders one replica, or says why it cannot be.
func (r *renderer) service(d *Desired, s Service, index int) {
	name := InstanceName(s, index)
	id := ID{KindInstance, name}
	if r.blocked[id] {
		return
	}

	img, ok := r.in.Images[s.Image.Ref]
	if !ok {
		b := r.in.Missing[s.Image.Ref]
		if b.Reason == "" {
			b.Reason = fmt.Sprintf("the image %s is not resolved yet", s.Image.Ref)
			b.Temporary = true
		}

		d.Blocked = append(d.Blocked, Blocked{On: id, Reason: b.Reason, At: s.Image.At, Waits: b.Waits, Temporary: b.Temporary, Service: s.Name})
		return
	}

	inst, err := r.instance(s, index, name, img)
	if err != nil {
		b := Blocked{On: id, Reason: err.Error(), At: s.At, Service: s.Name}
		missing, ok := errors.AsType[interface {
			error
			place() Place
		}](err)
		if ok {
			b.At, b.Temporary = missing.place(), true // it may be made any time
		}

		d.Blocked = append(d.Blocked, b)
		return
	}

	d.Instances = append(d.Instances, inst)
}

// project is the configuration of the Incus project: its own profiles and volumes, the host's images.
func (r *renderer) project() map[string]string {
	c := map[string]string{
		"features.images":          "false",
		"features.profiles":        "true",
		"features.storage.volumes": "true",
		"features.storage.buckets": "true",
		KeyManaged:                 "true",
		KeyOwner:                   r.in.Owner,
		KeyStack:                   r.p.Stack,
	}
	maps.Copy(c, r.p.Config)

	return c
}

func (r *renderer) network(n Network) DesiredNetwork {
	d := DesiredNetwork{Name: n.Incus, Key: n.Name, External: n.External, At: n.At}
	if n.External {
		return d
	}

	d.Config = map[string]string{
		"ipv4.address": "none",
		"ipv6.address": "none",
		"dns.mode":     "none",
		KeyOwner:       r.in.Owner,
		KeyStack:       r.p.Stack,
		KeyName:        n.Name,
	}
	for family, seg := range map[string]Segment{"ipv4": r.in.Segments[n.Incus], "ipv6": r.in.Segments[V6(n.Incus)]} {
		if !seg.Subnet.IsValid() {
			continue
		}

		d.Config[family+".address"] = netip.PrefixFrom(seg.Gateway, seg.Subnet.Bits()).String()
		d.Config[family+".dhcp"] = "false"
		d.Config[family+".nat"] = strconv.FormatBool(!n.Internal)
		if n.Internal {
			d.Config[family+".routing"] = "false"
		}
	}

	if r.in.Segments[V6(n.Incus)].Subnet.IsValid() {
		// Incus runs dnsmasq for router advertisements, and that must leave the DNS port to us.
		d.Config["raw.dnsmasq"] = "port=0"
	}

	r.leases(d.Config, n, r.in.Segments[n.Incus])
	if n.MTU != 0 {
		d.Config["bridge.mtu"] = strconv.Itoa(n.MTU)
	}

	addLabels(d.Config, n.Labels)
	maps.Copy(d.Config, n.Config)
	d.Config[KeyKeys] = keyList(d.Config)

	return d
}

func (r *renderer) volume(v Volume) DesiredVolume {
	d := DesiredVolume{Pool: r.home(v), Name: v.Incus, Key: v.Name, External: v.External, At: v.At}
	if v.External {
		return d
	}

	d.Config = map[string]string{KeyOwner: r.in.Owner, KeyStack: r.p.Stack, KeyName: v.Name}
	r.initial(d.Config, v.Name)
	if v.Size > 0 {
		d.Config["size"] = strconv.FormatInt(v.Size, 10)
	}

	addLabels(d.Config, v.Labels)
	maps.Copy(d.Config, v.Config)

	return d
}

// initial gives a fresh volume to the user of the first service that mounts it: Incus's default is a
// directory only root can write to.
func (r *renderer) initial(c map[string]string, key string) {
	owner, ok := r.owners[key]
	if !ok || owner == [2]uint32{} {
		c["initial.mode"] = "0755"
		return
	}

	c["initial.uid"] = strconv.FormatUint(uint64(owner[0]), 10)
	c["initial.gid"] = strconv.FormatUint(uint64(owner[1]), 10)
	c["initial.mode"] = "0755"
}

// home is the pool of a volume: where it is, else where the file wants it, else the host's. Data never stays behind in
// one pool while an empty volume is made in another.
func (r *renderer) home(v Volume) string {
	want := cmp.Or(v.Pool, r.in.Pool)
	pools := r.in.Homes[v.Incus]
	if v.External || len(pools) == 0 || slices.Contains(pools, want) {
		return want
	}

	return pools[0]
}

// Homes lists the pools that hold our volumes, by the volume's name, sorted.
func Homes(have Observed, owner string) map[string][]string {
	out := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(have.Volumes)) {
		v := have.Volumes[id]
		if v.Config[KeyOwner] == owner {
			name := strings.TrimPrefix(id, v.Pool+"/")
			out[name] = append(out[name], v.Pool)
		}
	}

	return out
}

// moved warns of a volume that is not in the pool its file names.
func (r *renderer) moved(v Volume) []Warning {
	home := r.home(v)
	if v.Pool == "" || home == v.Pool {
		return nil
	}

	return []Warning{{
		File: v.At.File, Line: v.At.Line, Key: "volumes." + v.Name + ".x-incus-compose.pool",
		Text: fmt.Sprintf("the volume stays in the pool %s, where its data is; with its services stopped, \"incus storage volume move %s/%s %s/%s --project %s\" moves it",
			home, home, v.Incus, v.Pool, v.Incus, r.p.Incus),
	}}
}

// InstanceName is the name of a service's n-th instance, from 1: "<service>-<n>", or the container_name.
func InstanceName(s Service, n int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}

	return SlugName(s.Name) + "-" + strconv.Itoa(n)
}

// SlugName turns a compose service name into what Incus accepts in an instance's name: letters, digits and
// hyphens, at most 58 characters, so that a replica's number still fits into 63.
func SlugName(s string) string {
	const most = 58
	slug := strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}

		return '-'
	}, s), "-")
	if len(slug) <= most {
		return slug
	}

	sum := sha256.Sum256([]byte(s))

	return hex.EncodeToString(sum[:16])
}

// shortHash is ten characters of base32, for names that must stay short.
func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	enc := base32.StdEncoding.WithPadding(base32.NoPadding)

	return strings.ToLower(enc.EncodeToString(sum[:]))[:10]
}

func addLabels(c map[string]string, labels map[string]string) {
	for k, v := range labels {
		c["user.label."+k] = v
	}
}

// keyList names the keys of c that are not our own bookkeeping, sorted.
func keyList(c map[string]string) string { return joinKeys(slices.Sorted(maps.Keys(c))) }

// joinKeys is keyList of sorted keys.
func joinKeys(sorted []string) string {
	keys := make([]string, 0, len(sorted))
	for _, k := range sorted {
		if !strings.HasPrefix(k, ownPrefix) {
			keys = append(keys, k)
		}
	}

	return strings.Join(keys, " ")
}

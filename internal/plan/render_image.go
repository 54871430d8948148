package plan

import (
	"fmt"
	"maps"
	"path"
	"slices"
)

// imageMount renders a mount of what an image holds: of a volume that is filled with it once and mounted read-only. The
// volume's name is made of the digest, so another image is another volume, and what runs keeps the one it has.
func (r *renderer) imageMount(d *DesiredInstance, m Mount, dev Device, name string) error {
	img, ok := r.in.Images[m.Source]
	if !ok {
		return missingImage{m, r.in.Missing[m.Source]}
	}

	dir := path.Join("/", m.Subpath)
	volume := "vol-image-" + shortHash(img.Digest+dir)
	pool := r.home(Volume{Incus: volume})
	dev["pool"], dev["source"], dev["readonly"] = pool, volume, "true"
	d.Volumes = append(d.Volumes, pool+"/"+volume)
	d.Devices[name] = dev
	for _, v := range r.anonymous {
		if v.Name == volume {
			return nil
		}
	}

	r.anonymous = append(r.anonymous, DesiredVolume{Pool: pool, Name: volume, At: m.At, Copy: img, Path: dir, Config: map[string]string{
		KeyOwner: r.in.Owner, KeyStack: r.p.Stack, KeyName: "", KeyImage: Pinned(img), "initial.mode": "0755",
	}})

	return nil
}

// Unused names our volumes, "pool/name", that are wanted no more and that nothing mounts, such as copies of images that were
// in force before.
func Unused(want Desired, have Observed, owner string) []string {
	unmade := slices.ContainsFunc(want.Blocked, func(b Blocked) bool {
		_, there := have.Instances[b.On.Name]
		return b.On.Kind == KindInstance && !there
	})
	if want.Incus == "" || unmade {
		return nil // not all is spelled out: what an instance will mount is not known
	}

	wanted := map[string]bool{}
	for _, v := range want.Volumes {
		wanted[v.Pool+"/"+v.Name] = true
	}

	var out []string
	for _, name := range slices.Sorted(maps.Keys(have.Volumes)) {
		v := have.Volumes[name]
		if v.Config[KeyOwner] == owner && v.UsedBy == 0 && !wanted[name] {
			out = append(out, name)
		}
	}

	return out
}

// missingImage holds a service whose mounted image is not known yet, or not to be had.
type missingImage struct {
	m   Mount
	why Blocked
}

// Error says why.
func (e missingImage) Error() string {
	if e.why.Reason == "" {
		return fmt.Sprintf("the image %s, which is mounted at %s, is not resolved yet", e.m.Source, e.m.Target)
	}

	return fmt.Sprintf("the image that is mounted at %s: %s", e.m.Target, e.why.Reason)
}

func (e missingImage) place() Place { return e.m.At }

package compose

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// volumes translates the mounts of the volumes list.
func (s *service) volumes() {
	for _, v := range s.in.Volumes {
		at := s.t.index.item(s.key+".volumes", func(item any) bool { return volumeTarget(item) == path.Clean(v.Target) })
		s.mount(at, v)
	}
}

// volumeTarget is the target of an entry in either form.
func volumeTarget(v any) string {
	m := asMap(v)
	if m != nil {
		return path.Clean(asString(m["target"]))
	}

	parsed, err := format.ParseVolume(asString(v))
	if err != nil {
		return ""
	}

	return path.Clean(parsed.Target)
}

func (s *service) mount(at plan.Place, v types.ServiceVolumeConfig) {
	key := s.key + ".volumes"
	m := plan.Mount{
		Type: plan.MountType(v.Type), Source: v.Source, Target: path.Clean(v.Target), ReadOnly: v.ReadOnly,
		Config: s.t.scalars(key+".x-incus", v.Extensions[extIncus]), At: at,
	}
	if !strings.HasPrefix(v.Target, "/") || m.Target == "/" {
		hint := `write an absolute path below "/"`
		if len(v.Target) > 1 && v.Target[1] == ':' {
			hint = "a name of one letter before a colon reads as a drive of Windows: give the volume a longer name"
		}

		s.t.refuseAt(at, key, fmt.Sprintf("the target %q is not a path inside the service", v.Target), hint)
	}

	for k := range s.t.known(key+".x-incus-compose", v.Extensions[extCompose], "seed") {
		s.t.warnAt(at, key, "x-incus-compose."+k+" is ignored: the directory is mounted as it is")
	}

	switch v.Type {
	case types.VolumeTypeBind:
		m.Create = v.Bind == nil || bool(v.Bind.CreateHostPath)
		m.NoShift = m.Config["security.shifted"] == "false"
		s.bindOptions(at, &m, v.Bind)
		if !strings.HasPrefix(v.Source, "/") {
			s.t.refuseAt(at, key, fmt.Sprintf("the source %q is not a path of the host", v.Source), `begin it with "/" or "./"`)
		}
	case types.VolumeTypeTmpfs:
		if v.Tmpfs != nil {
			m.Size = int64(v.Tmpfs.Size)
			m.Mode = octal(v.Tmpfs.Mode)
		}
	case types.VolumeTypeVolume:
		s.volumeMount(at, &m, v)
	case types.VolumeTypeImage:
		s.imageMount(at, &m, v)
	default:
		s.t.refuseAt(at, key, fmt.Sprintf("mounts of type %q do not exist here", v.Type), "use volume, bind, tmpfs or image")
	}

	s.out.Mounts = append(s.out.Mounts, m)
}

// bindOptions reads what becomes of mounts below the directory.
func (s *service) bindOptions(at plan.Place, m *plan.Mount, b *types.ServiceVolumeBind) {
	if b == nil {
		return
	}

	m.Propagation = b.Propagation
	if b.Propagation != "" && !slices.Contains(propagations, b.Propagation) {
		s.t.refuseAt(at, s.key+".volumes", fmt.Sprintf("unknown propagation %q", clip(b.Propagation)), "write one of "+strings.Join(propagations, ", "))
	}

	switch b.Recursive { // compose-go refuses other words
	case "disabled":
		m.Recursive = plan.RecursiveOff
	case "enabled", "writable", "readonly":
		m.Recursive = plan.RecursiveOn
	}

	s.t.flatten(at, s.key+".volumes", m)
}

// flatten leaves out what is mounted below a read-only directory: Incus refuses both together, and it would be writable.
func (t *translation) flatten(at plan.Place, key string, m *plan.Mount) {
	if m.Recursive == plan.RecursiveOn && m.ReadOnly {
		m.Recursive = plan.RecursiveOff
		t.warnAt(at, key, "what the host has mounted below "+m.Source+" is not included, because Incus cannot mount that read-only: mount it by an entry of its own, or leave out read_only")
	}
}

func (s *service) volumeMount(at plan.Place, m *plan.Mount, v types.ServiceVolumeConfig) {
	m.NoCopy = v.Volume != nil && v.Volume.NoCopy
	s.subpath(at, m, v)
	s.volumeLabels(at, m, v)
	host, ok := s.t.hostVolumes[m.Source]
	if ok && m.Source != "" {
		s.fromHost(m, host)
	}
}

// imageMount is what an image holds; Docker mounts it read-only, too.
func (s *service) imageMount(at plan.Place, m *plan.Mount, v types.ServiceVolumeConfig) {
	m.ReadOnly = true
	if v.Source == "" {
		s.t.refuseAt(at, s.key+".volumes", "names no image to mount", `write "source: nginx:1.27"`)
	}

	if v.Image != nil {
		m.Subpath = s.below(at, v.Image.SubPath, "image")
	}
}

// volumeLabels are those of a volume without a name; one with a name has its own.
func (s *service) volumeLabels(at plan.Place, m *plan.Mount, v types.ServiceVolumeConfig) {
	if v.Volume == nil || len(v.Volume.Labels) == 0 {
		return
	}

	if m.Source != "" {
		s.t.warnAt(at, s.key+".volumes", "volume.labels is ignored: write labels on the volume "+m.Source)
		return
	}

	m.Labels = labels(types.Labels(v.Volume.Labels))
}

func (s *service) subpath(at plan.Place, m *plan.Mount, v types.ServiceVolumeConfig) {
	if v.Volume != nil {
		m.Subpath = s.below(at, v.Volume.Subpath, "volume")
	}
}

// below reads a path inside a volume or image; "" is the whole.
func (s *service) below(at plan.Place, subpath, of string) string {
	if subpath == "" {
		return ""
	}

	clean := path.Clean(subpath)
	if strings.HasPrefix(clean, "/") || clean == ".." || strings.HasPrefix(clean, "../") {
		s.t.refuseAt(at, s.key+".volumes", fmt.Sprintf("the subpath %q leaves the %s", subpath, of), "write a path relative to the "+of)
	}

	return clean
}

// octal writes a mode; 0 means that none was given.
func octal(mode uint32) string {
	if mode == 0 {
		return ""
	}

	return strconv.FormatUint(uint64(mode), 8)
}

// tmpfs translates the short list, "/path" or "/path:size=64m,mode=1777".
func (s *service) tmpfs() {
	for _, entry := range s.in.Tmpfs {
		target, options, _ := strings.Cut(entry, ":")
		at := s.t.index.item(s.key+".tmpfs", func(v any) bool { return asString(v) == entry })
		m := plan.Mount{Type: plan.MountTmpfs, Target: path.Clean(target), At: at}
		if !strings.HasPrefix(target, "/") || m.Target == "/" {
			s.t.refuseAt(at, s.key+".tmpfs", fmt.Sprintf("%q is not a path inside the service", target), `write an absolute path below "/"`)
		}

		for opt := range strings.SplitSeq(options, ",") {
			s.t.tmpfsOption(at, s.key+".tmpfs", &m, opt)
		}

		if m.Mode == "" {
			m.Mode = "1777" // Docker's; Incus's own is root's alone
		}

		s.out.Mounts = append(s.out.Mounts, m)
	}
}

func (t *translation) tmpfsOption(at plan.Place, key string, m *plan.Mount, opt string) {
	name, value, _ := strings.Cut(opt, "=")
	var err error
	switch name {
	case "", "rw":
	case "ro":
		m.ReadOnly = true
	case "size":
		var size types.UnitBytes
		err = size.DecodeMapstructure(value)
		m.Size = int64(size)
	case "mode":
		_, err = strconv.ParseUint(value, 8, 16)
		m.Mode = strings.TrimLeft(value, "0")
	case "uid", "gid":
		var id uint64
		id, err = strconv.ParseUint(value, 10, 32)
		if name == "uid" {
			m.UID = uint32(id)
		} else {
			m.GID = uint32(id)
		}
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev":
		t.warnAt(at, key, fmt.Sprintf("the option %s is ignored: Incus mounts a tmpfs with its own", opt))
	default:
		t.warnAt(at, key, fmt.Sprintf("the option %s is not supported: size, mode, uid and gid are", opt))
	}

	if err != nil || m.Size < 0 {
		t.refuseAt(at, key, fmt.Sprintf("%q is not a valid option", opt), `write "size=64m" or "mode=1777"`)
	}
}

// shmSize sets the size of /dev/shm, unless something is mounted there.
func (s *service) shmSize() {
	size := int64(s.in.ShmSize)
	if size == 0 {
		return
	}

	if size < 0 {
		s.refuse("shm_size", "is negative", `write a number and a unit, "64m"`)
	}

	for _, m := range s.out.Mounts {
		if m.Target == "/dev/shm" {
			s.refuse("shm_size", "/dev/shm is mounted by volumes or tmpfs, too", "keep one of the two")
			return
		}
	}

	s.out.Mounts = append(s.out.Mounts, plan.Mount{Type: plan.MountTmpfs, Target: "/dev/shm", Size: size, Mode: "1777", At: s.place("shm_size")})
}

// volumesFrom copies the mounts of other services: "service", "service:ro", "service:rw".
func (t *translation) volumesFrom() {
	for _, name := range slices.Sorted(maps.Keys(t.project.Services)) {
		for _, entry := range t.project.Services[name].VolumesFrom {
			t.volumesOf(name, entry)
		}
	}
}

func (t *translation) volumesOf(name, entry string) {
	key := "services." + name + ".volumes_from"
	from, mode, _ := strings.Cut(entry, ":")
	i := slices.IndexFunc(t.out.Services, func(s plan.Service) bool { return s.Name == name })
	j := slices.IndexFunc(t.out.Services, func(s plan.Service) bool { return s.Name == from })
	at := t.index.item(key, func(v any) bool { return asString(v) == entry })
	switch {
	case from == "container":
		t.refuseAt(at, key, "containers outside the stack are not known here", "name the same volumes or directories in both stacks")
		return
	case j < 0:
		t.refuseAt(at, key, fmt.Sprintf("there is no service %q", from), didYouMean(from, slices.Sorted(maps.Keys(t.project.Services))))
		return
	case mode != "" && mode != "ro" && mode != "rw":
		t.refuseAt(at, key, fmt.Sprintf("unknown mode %q", mode), "write ro or rw")
	}

	own := &t.out.Services[i]
	for _, m := range t.out.Services[j].Mounts {
		taken := slices.ContainsFunc(own.Mounts, func(have plan.Mount) bool { return have.Target == m.Target })
		switch {
		case taken, m.Type == plan.MountTmpfs:
			continue
		case m.Source == "":
			t.warnAt(at, key, fmt.Sprintf("the volume at %s is not shared, because it has no name: give it one in %s", m.Target, from))
			continue
		}

		m.ReadOnly = m.ReadOnly || mode == "ro"
		own.Mounts = append(own.Mounts, m)
	}

	slices.SortStableFunc(own.Mounts, func(a, b plan.Mount) int { return strings.Compare(a.Target, b.Target) })
}

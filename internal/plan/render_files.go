package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// SecretsDir is where secrets are in an instance unless the file says otherwise. What is below it is mounted as one
// directory, so that a new content appears in one moment; a file elsewhere is mounted by itself.
const SecretsDir = "/run/secrets"

// HostPath is where the host keeps the file, relative to the directory of its instance.
func (f File) HostPath() string {
	below, ok := strings.CutPrefix(path.Clean(f.Target), SecretsDir+"/")
	if ok {
		return path.Join("secrets", below)
	}

	return "file-" + shortHash(f.Target)
}

// Bytes is the content of either kind of file; known is false for a secret whose content is not known.
func (f File) Bytes() (content []byte, known bool) {
	if f.Confidential {
		return f.Secret.Reveal(), f.Secret.Known()
	}

	return f.Content, true
}

// Placement is what the host keeps for one instance.
type Placement struct {
	Instance string
	Files    []File
	Hash     string
}

// Placements lists the configs and secrets of every instance of a project whose images are known: what has to be
// there before Incus starts them. A service whose update was taken back has those of the version it runs.
func Placements(p Project, led Ledger) []Placement {
	before := Project{Services: slices.Clone(p.Services)}
	images := map[string]Image{}
	maps.Copy(images, led.Images)
	for i, s := range p.Services {
		good, known := led.Good[s.Name]
		if ro := led.Rollouts[s.Name]; known && (ro.Phase == HeldBack || ro.Phase == GoingBack) {
			old := good.Service
			old.Replicas, old.Image.Ref = s.Replicas, goodRef+s.Name
			before.Services[i], images[old.Image.Ref] = old, good.Image
		}
	}

	before.Unlock(p)

	var out []Placement
	for _, s := range before.Services {
		img, known := images[s.Image.Ref]
		if !known {
			continue
		}

		uid, gid, err := ResolveUser(s.Process.User, img)
		if err != nil {
			continue // Such an instance is not made either.
		}

		l, err := s.launch(img, uid)
		if err != nil || len(l.files(s)) == 0 {
			continue
		}

		files, hash := placed(l.files(s), uid, gid)
		for i := 1; i <= s.Replicas; i++ {
			out = append(out, Placement{Instance: InstanceName(s, i), Files: files, Hash: hash})
		}
	}

	return out
}

// placed completes the configs and secrets of a service, whose process has this user and group.
func placed(list []File, uid, gid uint32) (files []File, hash string) {
	if len(list) == 0 {
		return nil, ""
	}

	files = slices.Clone(list)
	for i := range files {
		f := &files[i]
		if f.UID < 0 {
			f.UID = int64(uid)
		}

		if f.GID < 0 {
			f.GID = int64(gid)
		}

		if f.Mode == 0 {
			f.Mode = 0o444
		}
	}

	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Target, b.Target) })
	h := sha256.New()
	hashFiles(h, files)

	return files, hex.EncodeToString(h.Sum(nil))[:32]
}

// hashFiles covers all of the files; of secrets, the seal.
func hashFiles(h io.Writer, files []File) {
	for _, f := range files {
		fmt.Fprintf(h, "%q %d:%d %o %d %q\n", f.Target, f.UID, f.GID, f.Mode, len(f.Content), f.Seal)
		_, _ = h.Write(f.Content) // a hash takes everything
	}
}

// fileDevices mounts the configs and secrets.
func (r *renderer) fileDevices(d *DesiredInstance) error {
	if len(d.Placed) == 0 {
		return nil
	}

	if r.in.FilesDir == "" {
		return errors.New("this agent has no directory for configs and secrets: run it as a service")
	}

	dir, tree := path.Join(r.in.FilesDir, r.p.Incus, d.Name), false
	for _, f := range d.Placed {
		name, source, target := "file-"+shortHash(f.Target), f.HostPath(), f.Target
		if strings.HasPrefix(source, "secrets/") {
			name, source, target = "secrets", "secrets", SecretsDir
		}

		if name != "secrets" || !tree {
			d.Targets = append(d.Targets, Target{Path: target, Dir: name == "secrets"})
			tree = tree || name == "secrets"
		}

		d.Devices[name] = Device{
			"type": "disk", "source": path.Join(dir, source), "path": target, "readonly": "true", "shift": "true",
		}
		d.originate(nil, map[string]Device{name: nil}, f.At)
	}

	return nil
}

package incustest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// volumeKey is the volume that a request is about; it is called with the lock held.
func (s *Server) volumeKey(r *http.Request) key {
	return key{s.home(project(r), "features.storage.volumes"), r.PathValue("pool") + "/" + r.PathValue("name")}
}

// postSnapshot takes a snapshot of a volume, of which only the name is kept: what is in volumes is not modelled.
func (s *Server) postSnapshot(r *http.Request) reply {
	var req api.StorageVolumeSnapshotsPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	k := s.volumeKey(r)
	switch {
	case s.volumes[k] == nil:
		err = notFound("Storage volume")
	case slices.Contains(s.snapshots[k], req.Name):
		err = badRequest("Snapshot %q already in use", req.Name)
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	return s.operateWith("Snapshotting storage volume", func(*operation) {}, func(op *operation) error {
		alive := s.sleep(op.life, s.opt.Delays.Create)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !alive {
			return errLife
		}
		s.snapshots[k] = append(s.snapshots[k], req.Name)
		return nil
	})
}

func (s *Server) getSnapshot(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.PathValue("snapshot")
	if !slices.Contains(s.snapshots[s.volumeKey(r)], name) {
		return failed(notFound("Storage volume snapshot"))
	}
	return okETag(api.StorageVolumeSnapshot{Name: name, ContentType: "filesystem"}, name)
}

func (s *Server) deleteSnapshot(r *http.Request) reply {
	s.mu.Lock()
	k, name := s.volumeKey(r), r.PathValue("snapshot")
	there := slices.Contains(s.snapshots[k], name)
	s.mu.Unlock()
	if !there {
		return failed(notFound("Storage volume snapshot"))
	}
	return s.operateWith("Deleting storage volume snapshot", func(*operation) {}, func(*operation) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.snapshots[k] = slices.DeleteFunc(s.snapshots[k], func(o string) bool { return o == name })
		return nil
	})
}

// restore is called with the lock held.
func (s *Server) restore(k key, snapshot string) reply {
	if !slices.Contains(s.snapshots[k], snapshot) {
		return failed(badRequest("Snapshot not found"))
	}
	pool, volume, _ := strings.Cut(k.name, "/")
	for at, i := range s.instances {
		for _, d := range i.api.Devices {
			source, _, _ := strings.Cut(d["source"], "/")
			if i.running() && at.project == k.project && d["pool"] == pool && source == volume {
				return failed(badRequest("Cannot restore custom volume used by running instances"))
			}
		}
	}
	s.restored = append(s.restored, k.name+"/"+snapshot)
	return ok(nil)
}

// Snapshots lists the snapshots of a project's volume, "pool/name", the oldest first.
func (s *Server) Snapshots(project, volume string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.snapshots[key{project, volume}])
}

// Restored lists the snapshots that volumes were restored from, "pool/name/snapshot".
func (s *Server) Restored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.restored)
}

package incustest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

// AddImage offers an image in a registry.
func (s *Server) AddImage(server, alias string, image Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catalogue[server+" "+alias] = image
}

// StoreImage puts an image into Incus's own store, as if pulled before; cached as if Incus had done it by
// itself.
func (s *Server) StoreImage(project string, image Image, cached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	image.cached, image.uploaded = cached, time.Now()
	s.images[key{s.home(project, "features.images"), image.Fingerprint}] = &image
}

// offered asks the registry.
func (s *Server) offered(server, alias string) (Image, error) {
	s.mu.Lock()
	image, found := s.catalogue[server+" "+alias]
	s.mu.Unlock()
	if found {
		return image, nil
	}
	err := errors.New("reading manifest in " + strings.TrimPrefix(server, "https://") + "/" + alias + ": manifest unknown")
	if s.opt.Resolve != nil {
		image, err = s.opt.Resolve(server, alias)
	}
	if err != nil {
		host := strings.TrimPrefix(server, "https://")
		ref := "docker://" + host + "/" + alias
		return image, says("Failed getting remote image info: Failed to run: skopeo --insecure-policy inspect %s: exit status 1 (time=\"2026-01-01T00:00:00Z\" level=fatal msg=\"Error parsing image name \\\"%s\\\": %s\")", ref, ref, err)
	}
	return image, nil
}

func (s *Server) getImages(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "1" {
		return s.violation(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	home := s.home(project(r), "features.images")
	list := []api.Image{}
	for k, i := range s.images {
		if k.project == home {
			list = append(list, api.Image{
				Fingerprint: k.name, Project: k.project, Cached: i.cached, UploadedAt: i.uploaded, Type: "container", Architecture: "x86_64",
				ImagePut: api.ImagePut{AutoUpdate: i.cached, Profiles: []string{"default"}, Properties: i.described()},
			})
		}
	}
	slices.SortFunc(list, func(a, b api.Image) int { return strings.Compare(a.Fingerprint, b.Fingerprint) })
	return ok(list)
}

// described is the properties of an image: its own, and those it was pulled with.
func (i Image) described() map[string]string {
	all := map[string]string{"type": "oci"}
	maps.Copy(all, i.properties)
	return all
}

func (s *Server) getImage(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.images[key{s.home(project(r), "features.images"), r.PathValue("fingerprint")}]
	if i == nil {
		return failed(notFound("Image"))
	}
	return ok(api.Image{
		Fingerprint: i.Fingerprint, Cached: i.cached, UploadedAt: i.uploaded, Type: "container", Architecture: "x86_64",
		ImagePut: api.ImagePut{AutoUpdate: i.cached, Properties: i.described()},
	})
}

func (s *Server) postImage(r *http.Request) reply {
	if r.Header.Get("Content-Type") == "application/octet-stream" {
		return s.importImage(r)
	}
	var req api.ImagesPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	src := req.Source
	if src == nil || src.Type != "image" || src.Mode != "pull" || src.Protocol != "oci" {
		return s.violation(r)
	}
	name := project(r)
	s.mu.Lock()
	_, found := s.projects[name]
	s.mu.Unlock()
	if !found {
		return failed(notFound("Project"))
	}
	return s.operate("Downloading image", nil, func(op *operation) error {
		if !s.sleep(op.life, s.opt.Delays.Pull) {
			return errLife
		}
		image, err := s.offered(src.Server, src.Alias)
		if err != nil {
			return err
		}
		image.properties = req.Properties
		s.keep(op, name, image)
		return nil
	})
}

// importImage takes an image that a client sends, a unified archive.
func (s *Server) importImage(r *http.Request) reply {
	archive, err := io.ReadAll(r.Body)
	if err != nil {
		return failed(err)
	}
	noted, err := url.ParseQuery(r.Header.Get("X-Incus-properties"))
	if err != nil {
		return failed(err)
	}
	sum := sha256.Sum256(archive)
	image := Image{Fingerprint: hex.EncodeToString(sum[:]), properties: map[string]string{}}
	for k := range noted {
		image.properties[k] = noted.Get(k)
	}
	name := project(r)
	_, found := s.Project(name)
	if !found {
		return failed(notFound("Project"))
	}
	return s.operate("Downloading image", nil, func(op *operation) error {
		s.keep(op, name, image)
		return nil
	})
}

// keep puts an image into the store of a project, unless it is there.
func (s *Server) keep(op *operation, name string, image Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	home := s.home(name, "features.images")
	k := key{home, image.Fingerprint}
	if s.images[k] == nil {
		image.uploaded = time.Now()
		s.images[k] = &image
		s.emit(home, api.EventLifecycleImageCreated, ref(home, "images", image.Fingerprint), "", op.user, map[string]any{"type": "container"})
	}
	op.api.Metadata["fingerprint"] = image.Fingerprint
}

func (s *Server) deleteImage(r *http.Request) reply {
	name, fp := project(r), r.PathValue("fingerprint")
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{s.home(name, "features.images"), fp}
	if s.images[k] == nil {
		return failed(notFound("Image"))
	}
	return s.later("Deleting image", func(op *operation) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.images, k)
		s.emit(k.project, api.EventLifecycleImageDeleted, ref(k.project, "images", fp), "", op.user, nil)
		return nil
	})
}

// later is operate for callers that hold the lock.
func (s *Server) later(what string, run func(*operation) error) reply {
	return func(w http.ResponseWriter) { s.operate(what, nil, run)(w) }
}

// ociDefaults fills the oci.* keys an instance does not have from its image, as at its first start.
func (i Image) ociDefaults(config map[string]string) {
	for k, v := range map[string]string{
		"oci.entrypoint": cmp.Or(i.Entrypoint, "/bin/sh"), "oci.cwd": cmp.Or(i.Cwd, "/"), "oci.uid": cmp.Or(i.UID, "0"), "oci.gid": cmp.Or(i.GID, "0"),
	} {
		if config[k] == "" {
			config[k] = v
		}
	}
}

// stamp writes what Incus notes of an image on an instance.
func (i Image) stamp(config map[string]string) {
	maps.DeleteFunc(config, func(k, _ string) bool { return strings.HasPrefix(k, "image.") })
	config["image.type"] = "oci"
	config["image.architecture"] = "x86_64"
	config["volatile.base_image"] = i.Fingerprint
	config["volatile.container.oci"] = "true"
	i.ociDefaults(config)
}

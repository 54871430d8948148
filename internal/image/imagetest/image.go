package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Config is what an image's config says. The zero value is an image that says nothing.
type Config struct {
	Entrypoint, Cmd, Env []string
	// User is USER, Cwd WORKDIR, StopSignal STOPSIGNAL.
	User, Cwd, StopSignal string
	// Volumes are VOLUME paths, Ports EXPOSE entries ("80/tcp").
	Volumes, Ports []string
	Healthcheck    *plan.Healthcheck
	// Platform is "os/arch[/variant]"; empty means linux on our own architecture, "none" leaves it out.
	Platform string
	// OCI makes manifests of the OCI format instead of docker's schema 2.
	OCI bool
	// MediaType replaces the config's media type, so that the manifest describes no image.
	MediaType string
}

// Files is a layer: contents by path ("etc/passwd"). A content that begins with "-> " makes a symbolic link
// to the rest; a name "etc/.wh.passwd" is the layer format's mark that hides "etc/passwd" of the layers below.
type Files map[string]string

// Image is what became of an image.
type Image struct {
	// Digest is that of the manifest, "sha256:…"; Fingerprint is Incus's name, empty for an index.
	Digest, Fingerprint string
	// Layers are the digests of the layers, bottom first.
	Layers []string

	manifest  []byte
	mediaType types.MediaType
	platform  *v1.Platform
}

// Add makes an image of the layers, bottom first, under the reference ("nginx:alpine", its tag and its
// digest are set), replacing what the tag named before. The same arguments give the same digests.
func (r *Registry) Add(ref string, c Config, layers ...Files) (Image, error) {
	repo, tag := split(ref)
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2}
	layerType := types.DockerLayer
	m.Config.MediaType = types.DockerConfigJSON
	if c.OCI {
		m.MediaType, layerType, m.Config.MediaType = types.OCIManifestSchema1, types.OCILayer, types.OCIConfigJSON
	}
	if c.MediaType != "" {
		m.Config.MediaType = types.MediaType(c.MediaType)
	}
	img := Image{mediaType: m.MediaType, platform: platform(c.Platform)}
	var diffs []string
	all := sha256.New()
	for _, files := range layers {
		blob, diff, err := archive(files)
		if err != nil {
			return Image{}, err
		}
		d, err := r.putBlob(repo, blob, layerType)
		if err != nil {
			return Image{}, err
		}
		m.Layers, diffs = append(m.Layers, d), append(diffs, diff)
		img.Layers = append(img.Layers, d.Digest.String())
		fmt.Fprint(all, d.Digest)
	}
	img.Fingerprint = fmt.Sprintf("%x", all.Sum(nil))
	config, err := json.Marshal(c.file(img.platform, diffs))
	if err != nil {
		return Image{}, fmt.Errorf("make the config: %w", err)
	}
	d, err := r.putBlob(repo, config, m.Config.MediaType)
	if err != nil {
		return Image{}, err
	}
	m.Config = d
	return r.putManifest(repo, tag, img, m)
}

// AddIndex makes a multi-platform index of images added before to the same repository.
func (r *Registry) AddIndex(ref string, images ...Image) (Image, error) {
	repo, tag := split(ref)
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for _, img := range images {
		h, err := v1.NewHash(img.Digest)
		if err != nil {
			return Image{}, fmt.Errorf("digest of an image: %w", err)
		}
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: img.mediaType, Digest: h, Size: int64(len(img.manifest)), Platform: img.platform,
		})
	}
	return r.putManifest(repo, tag, Image{mediaType: types.OCIImageIndex}, index)
}

// file is the config in JSON: go-containerregistry's type lacks StartInterval.
func (c Config) file(p *v1.Platform, diffs []string) map[string]any {
	config := map[string]any{
		"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Env": c.Env, "User": c.User, "WorkingDir": c.Cwd,
		"StopSignal": c.StopSignal, "Volumes": set(c.Volumes), "ExposedPorts": set(c.Ports),
	}
	if c.Healthcheck != nil {
		h := c.Healthcheck
		config["Healthcheck"] = struct {
			Test                                          []string
			Interval, Timeout, StartPeriod, StartInterval time.Duration
			Retries                                       int
		}{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
	}
	file := map[string]any{"config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs}}
	if p != nil {
		file["os"], file["architecture"], file["variant"] = p.OS, p.Architecture, p.Variant
	}
	return file
}

func set(names []string) map[string]struct{} {
	out := map[string]struct{}{}
	for _, n := range names {
		out[n] = struct{}{}
	}
	return out
}

func platform(written string) *v1.Platform {
	if written == "none" {
		return nil
	}
	if written == "" {
		written = "linux/" + runtime.GOARCH
	}
	parts := append(strings.SplitN(written, "/", 3), "", "")
	return &v1.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// split cuts a reference into repository and tag; names without a slash are Docker Hub's official ones.
func split(ref string) (repo, tag string) {
	repo, tag = ref, "latest"
	colon := strings.LastIndexByte(ref, ':')
	if colon > strings.LastIndexByte(ref, '/') {
		repo, tag = ref[:colon], ref[colon+1:]
	}
	first, rest, ok := strings.Cut(repo, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		repo = rest
	}
	if !ok {
		repo = "library/" + repo
	}
	return repo, tag
}

// archive makes a layer, and the digest of what is in it before compression.
func archive(files Files) (blob []byte, diff string, err error) {
	var content, compressed bytes.Buffer
	t := tar.NewWriter(&content)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))}
		target, link := strings.CutPrefix(files[name], "-> ")
		if link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		errs = append(errs, t.WriteHeader(h))
		if !link {
			_, err := t.Write([]byte(files[name]))
			errs = append(errs, err)
		}
	}
	errs = append(errs, t.Close())
	z := gzip.NewWriter(&compressed)
	_, err = z.Write(content.Bytes())
	err = errors.Join(append(errs, err, z.Close())...)
	if err != nil {
		return nil, "", fmt.Errorf("make a layer: %w", err)
	}
	return compressed.Bytes(), fmt.Sprintf("sha256:%x", sha256.Sum256(content.Bytes())), nil
}

func (r *Registry) putBlob(repo string, blob []byte, t types.MediaType) (v1.Descriptor, error) {
	h, size, err := v1.SHA256(bytes.NewReader(blob))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("digest of a blob: %w", err)
	}
	err = r.put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+h.String(), blob, t)
	return v1.Descriptor{MediaType: t, Size: size, Digest: h}, err
}

func (r *Registry) putManifest(repo, tag string, img Image, content any) (Image, error) {
	var err error
	img.manifest, err = json.Marshal(content)
	if err != nil {
		return Image{}, fmt.Errorf("make a manifest: %w", err)
	}
	img.Digest = fmt.Sprintf("sha256:%x", sha256.Sum256(img.manifest))
	path := "/v2/" + repo + "/manifests/" + tag
	err = r.put(http.MethodPut, path, img.manifest, img.mediaType)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made[path] = true
	return img, err
}

// put talks to the server behind the faults and the login.
func (r *Registry) put(method, target string, body []byte, t types.MediaType) error {
	at, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("store %s: %w", target, err)
	}
	rec := &recorder{header: http.Header{}}
	r.inner.ServeHTTP(rec, &http.Request{
		Method: method, URL: at, Header: http.Header{"Content-Type": {string(t)}},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	})
	if rec.code != http.StatusCreated {
		return fmt.Errorf("store %s: status %d: %s", target, rec.code, rec.body.String())
	}
	return nil
}

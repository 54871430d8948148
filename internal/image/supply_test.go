package image

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// loopbackRelay is a resolver whose relay listens on any free port.
func loopbackRelay(opts Options) *Resolver {
	r := New(opts)
	r.relay.addr = "127.0.0.1:0"
	return r
}

func pullOf(img plan.Image) plan.PullImage {
	return plan.PullImage{Server: img.Server, Alias: img.Alias, Ref: img.Ref, Want: img.Fingerprint, Config: img.Config, Marked: img.Marked, Size: img.Size}
}

// fetch asks the relay as Incus's skopeo would.
func (r *Resolver) fetch(t *testing.T, path string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.relay.at.String()+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// walk fetches a supplied image whole and returns its fingerprint and config.
func (r *Resolver) walk(t *testing.T, s Supply) (string, string) {
	t.Helper()
	name, digest, _ := strings.Cut(s.Alias, "@")
	_, body := r.fetch(t, name+"/manifests/"+digest)
	if hashOf(body).String() != digest {
		t.Fatalf("the manifest is %s, not %s", hashOf(body), digest)
	}
	var m v1.Manifest
	err := json.Unmarshal(body, &m)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		_, blob := r.fetch(t, name+"/blobs/"+l.Digest.String())
		if hashOf(blob) != l.Digest {
			t.Errorf("a layer is %s, not %s", hashOf(blob), l.Digest)
		}
	}
	_, config := r.fetch(t, name+"/blobs/"+m.Config.Digest.String())
	return fingerprint(m.Layers), string(config)
}

func TestPublicImagesAreIncusOwnAffair(t *testing.T) {
	reg := imagetest.New()
	_, err := reg.Add("nginx", imagetest.Config{}, imagetest.Files{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	r := loopbackRelay(Options{Transport: reg})
	img, err := r.Resolve(t.Context(), plan.ImageRef{Ref: "nginx"}, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Supply(t.Context(), pullOf(img))
	if err != nil || s.Relayed || s.Server != img.Server || s.Alias != img.Alias {
		t.Errorf("supply = %+v, %v", s, err)
	}
	s.Close()
}

func TestWhatNeedsALoginComesThroughTheRelay(t *testing.T) {
	reg := imagetest.New()
	made, err := reg.Add("quay.io/team/app", imagetest.Config{Cmd: []string{"run"}}, imagetest.Files{"a": "1"}, imagetest.Files{"b": "2"})
	if err != nil {
		t.Fatal(err)
	}
	reg.RequireLogin("me", "secret")
	auth := filepath.Join(t.TempDir(), "auth.json")
	err = os.WriteFile(auth, []byte(`{"auths":{"quay.io":{"username":"me","password":"secret"}}}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r := loopbackRelay(Options{Transport: reg, AuthFiles: []string{"/nonexistent/auth.json", auth}})
	img, err := r.Resolve(t.Context(), plan.ImageRef{Ref: "quay.io/team/app"}, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Supply(t.Context(), pullOf(img))
	if err != nil || !s.Relayed || s.Server != RelayServer || strings.Contains(s.Alias+s.Server, "secret") {
		t.Fatalf("supply = %+v, %v", s, err)
	}
	fp, config := r.walk(t, s)
	if fp != made.Fingerprint || !strings.Contains(config, `"run"`) {
		t.Errorf("the relay gave %s, %s; want %s", fp, config, made.Fingerprint)
	}
	if s.Sent() != img.Size {
		t.Errorf("sent %d of %d bytes", s.Sent(), img.Size)
	}
	code, _ := r.fetch(t, "other/app/manifests/"+img.Digest)
	if code != http.StatusNotFound {
		t.Errorf("under another name: %d", code)
	}
	s.Close()
	if r.relay.server != nil {
		t.Error("the relay listens on after its last image")
	}
}

func TestMarkedImagesDifferByTheirConfig(t *testing.T) {
	reg := imagetest.New()
	seen := map[string]bool{}
	for _, name := range []string{"one", "two"} {
		_, err := reg.Add(name, imagetest.Config{Env: []string{"NAME=" + name}}, imagetest.Files{"a": "1"})
		if err != nil {
			t.Fatal(err)
		}
		r := loopbackRelay(Options{Transport: reg})
		img, err := r.Resolve(t.Context(), plan.ImageRef{Ref: name}, false)
		if err != nil {
			t.Fatal(err)
		}
		seen[img.Fingerprint] = true
		img.Marked, img.Fingerprint = true, img.MarkedFingerprint
		s, err := r.Supply(t.Context(), pullOf(img))
		if err != nil || !s.Relayed {
			t.Fatalf("supply = %+v, %v", s, err)
		}
		fp, config := r.walk(t, s)
		if fp != img.MarkedFingerprint || !strings.Contains(config, "NAME="+name) {
			t.Errorf("%s: the relay gave %s, %s; want %s", name, fp, config, img.MarkedFingerprint)
		}
		seen[fp] = true
		s.Close()
	}
	if len(seen) != 3 { // one that they share, and one each
		t.Errorf("fingerprints: %v", seen)
	}
}

func TestBuiltImagesComeThroughTheRelay(t *testing.T) {
	reg := imagetest.New()
	made, err := reg.Add("app", imagetest.Config{User: "7:8", Entrypoint: []string{"/run"}}, imagetest.Files{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	r := loopbackRelay(Options{Transport: reg})
	src, err := parse("app")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	from, err := through(t.Context(), r, src, func(c *conversation) (v1.Image, error) {
		return remote.Image(c.src.remote, c.opts...)
	})
	if err != nil {
		t.Fatal(err)
	}
	writeDirectory(t, dir, from)
	img, err := r.Directory(dir, "blog-app", false)
	if err != nil || img.UID != 7 || img.Fingerprint != made.Fingerprint || img.Ref != "blog-app" || img.Server != Built {
		t.Fatalf("image = %+v, %v", img, err)
	}
	s, err := r.Supply(t.Context(), pullOf(img))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fp, _ := r.walk(t, s)
	if fp != made.Fingerprint {
		t.Errorf("the relay gave %s, want %s", fp, made.Fingerprint)
	}
	_, err = r.Directory(dir+"x", "blog-app", false)
	if err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// writeDirectory writes an image as buildah's "dir:" does.
func writeDirectory(t *testing.T, dir string, img v1.Image) {
	t.Helper()
	files := map[string][]byte{}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"] = raw
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	files[hashOf(config).Hex] = config
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		body, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		files[hashOf(blob).Hex] = blob
	}
	err = os.Mkdir(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		err = os.WriteFile(filepath.Join(dir, name), content, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	main, mirror := imagetest.New(), imagetest.New()
	for _, reg := range []*imagetest.Registry{main, mirror} {
		_, err := reg.Add("nginx", imagetest.Config{}, imagetest.Files{"a": "1"})
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := mirror.Add("localhost/hub/library/nginx", imagetest.Config{}, imagetest.Files{"a": "1"})
	if err != nil {
		t.Fatal(err)
	}
	r := loopbackRelay(Options{
		Transport: switchboard{"mirror.lan:5000": mirror, "registry-1.docker.io": main, "index.docker.io": main},
		Mirrors:   map[string][]string{"docker.io": {"down.lan", "mirror.lan:5000/hub"}},
	})
	img, err := r.Resolve(t.Context(), plan.ImageRef{Ref: "nginx"}, false)
	if err != nil || img.Ref != "docker.io/library/nginx:latest" || img.Server != "https://docker.io" || !strings.HasPrefix(img.Alias, "library/nginx:latest@") {
		t.Fatalf("image = %+v, %v", img, err)
	}
	if main.Count("") != 0 || mirror.Count("/v2/hub/library/nginx/manifests/latest") != 1 {
		t.Errorf("the registry was asked %q, the mirror %q", main.Requests(), mirror.Requests())
	}
	s, err := r.Supply(t.Context(), pullOf(img))
	if err != nil || !s.Relayed {
		t.Fatalf("supply = %+v, %v", s, err)
	}
	s.Close()
	mirror.Inject(imagetest.Fault{Down: true})
	_, err = r.Resolve(t.Context(), plan.ImageRef{Ref: "nginx"}, false)
	if err != nil || main.Count("/manifests/latest") != 1 {
		t.Errorf("with the mirror down: %v; the registry was asked %q", err, main.Requests())
	}
}

// switchboard sends requests to registries by their host; others are down.
type switchboard map[string]http.RoundTripper

func (s switchboard) RoundTrip(req *http.Request) (*http.Response, error) {
	next, ok := s[req.URL.Host]
	if !ok {
		return nil, context.DeadlineExceeded
	}
	return next.RoundTrip(req)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := imagetest.New()
		_, err := reg.Add("nginx", imagetest.Config{}, imagetest.Files{"a": "1"})
		if err != nil {
			t.Fatal(err)
		}
		mend := reg.Inject(imagetest.Fault{Path: "/manifests/", Status: 429, RetryAfter: "90"})
		r := New(Options{Transport: reg})
		ask := func() error {
			_, err := r.Digest(t.Context(), plan.ImageRef{Ref: "nginx"})
			return err
		}
		err = ask()
		if err == nil || !strings.Contains(err.Error(), "429") {
			t.Fatalf("err = %v", err)
		}
		mend()
		asked := reg.Count("")
		time.Sleep(89 * time.Second)
		err = ask()
		if err == nil || !strings.Contains(err.Error(), "is left alone until") || reg.Count("") != asked {
			t.Errorf("too early: %v, %d requests", err, reg.Count("")-asked)
		}
		time.Sleep(time.Second)
		err = ask()
		if err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

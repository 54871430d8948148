package image_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// add puts an image into the registry.
func add(t *testing.T, reg *imagetest.Registry, ref string, c imagetest.Config, layers ...imagetest.Files) imagetest.Image {
	t.Helper()
	img, err := reg.Add(ref, c, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// resolve asks for an image that must be there.
func resolve(t *testing.T, reg http.RoundTripper, ref string) plan.Image {
	t.Helper()
	img, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: ref}, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

var onlyFile = imagetest.Files{"bin/app": "program"}

func TestResolveTellsTheWholeConfig(t *testing.T) {
	reg := imagetest.New()
	health := &plan.Healthcheck{
		Test: []string{"CMD-SHELL", "redis-cli ping"}, Interval: 30 * time.Second, Timeout: 3 * time.Second,
		StartPeriod: time.Minute, StartInterval: 2 * time.Second, Retries: 5,
	}
	made := add(t, reg, "redis:7", imagetest.Config{
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server", "--save", ""},
		Env: []string{"PATH=/bin", "A=1", "B=x=y", "EMPTY=", "A=2"}, User: "999:1000", Cwd: "/data", StopSignal: "SIGINT",
		Volumes: []string{"/var", "/data"}, Ports: []string{"6379/tcp", "16379/tcp"}, Healthcheck: health,
	}, onlyFile, imagetest.Files{"etc/redis": "x"})

	got := resolve(t, reg, "redis:7")
	if got.Config == "" || got.Size == 0 || got.MarkedFingerprint == "" {
		t.Errorf("its config's digest is %q, its size %d, its marked fingerprint %q", got.Config, got.Size, got.MarkedFingerprint)
	}
	want := plan.Image{
		Ref: "docker.io/library/redis:7", Digest: made.Digest, Fingerprint: made.Fingerprint, Config: got.Config, Size: got.Size, MarkedFingerprint: got.MarkedFingerprint,
		Server: "https://docker.io", Alias: "library/redis:7@" + made.Digest,
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server", "--save", ""},
		Env: map[string]string{"PATH": "/bin", "A": "2", "B": "x=y", "EMPTY": ""}, Cwd: "/data",
		User: "999:1000", UID: 999, GID: 1000, StopSignal: "SIGINT",
		Volumes: []string{"/data", "/var"}, Ports: []string{"16379/tcp", "6379/tcp"}, Healthcheck: health,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
}

func TestResolveReadsBothManifestFormats(t *testing.T) {
	for _, oci := range []bool{false, true} {
		reg := imagetest.New()
		made := add(t, reg, "app", imagetest.Config{OCI: oci, Cmd: []string{"run"}}, onlyFile)
		got := resolve(t, reg, "app")
		if got.Digest != made.Digest || got.Fingerprint != made.Fingerprint || !slices.Equal(got.Cmd, []string{"run"}) {
			t.Errorf("oci %v: got %+v, want digest %s", oci, got, made.Digest)
		}
	}
}

func TestSameLayersShareTheFingerprintAndNotTheDigest(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "a", imagetest.Config{Cmd: []string{"a"}}, onlyFile)
	add(t, reg, "b", imagetest.Config{Cmd: []string{"b"}}, onlyFile)
	add(t, reg, "c", imagetest.Config{Cmd: []string{"a"}}, onlyFile, imagetest.Files{"more": ""})
	a, b, c := resolve(t, reg, "a"), resolve(t, reg, "b"), resolve(t, reg, "c")
	if a.Fingerprint != b.Fingerprint || a.Digest == b.Digest {
		t.Errorf("same layers: fingerprints %s, %s, digests %s, %s", a.Fingerprint, b.Fingerprint, a.Digest, b.Digest)
	}
	if a.Fingerprint == c.Fingerprint {
		t.Error("another layer did not change the fingerprint")
	}
}

func TestUserAndGroupInNumbersNeedNoLayer(t *testing.T) {
	for _, user := range []string{"", "0", "1000:100"} {
		reg := imagetest.New()
		made := add(t, reg, "app", imagetest.Config{User: user}, onlyFile)
		resolve(t, reg, "app")
		if n := reg.Count(made.Layers[0]); n != 0 {
			t.Errorf("USER %q: the layer was asked for %d times", user, n)
		}
	}
}

func TestPlatformOfAnIndex(t *testing.T) {
	for _, tc := range []struct {
		arch, platform string
		there          []string
		want           string // the platform chosen; empty: none
	}{
		{"amd64", "", []string{"linux/arm64", "linux/amd64"}, "linux/amd64"},
		{"arm64", "", []string{"linux/arm/v7", "linux/arm64/v8", "linux/amd64"}, "linux/arm64/v8"},
		{"arm64", "", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"arm", "", []string{"linux/arm/v6", "linux/arm/v7"}, "linux/arm/v7"},
		{"amd64", "", []string{"linux/386"}, "linux/386"},
		{"amd64", "", []string{"linux/386", "linux/amd64"}, "linux/amd64"},
		{"amd64", "", []string{"windows/amd64", "linux/amd64"}, "linux/amd64"},
		{"amd64", "", []string{"unknown/unknown", "linux/amd64"}, "linux/amd64"},
		{"amd64", "", []string{"linux/arm64", "unknown/unknown", "linux/s390x"}, ""},
		{"arm64", "linux/arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm64", "arm64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm64", "linux/aarch64", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm64", "linux", []string{"linux/amd64", "linux/arm64"}, "linux/arm64"},
		{"arm64", "linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm/v6"},
		{"arm64", "linux/arm64", []string{"linux/arm/v7", "linux/amd64"}, ""},
	} {
		t.Run(tc.arch+" "+tc.platform+" of "+strings.Join(tc.there, ","), func(t *testing.T) {
			reg := imagetest.New()
			byPlatform := map[string]imagetest.Image{}
			var all []imagetest.Image
			for _, p := range tc.there {
				img := add(t, reg, "app:"+strings.ReplaceAll(p, "/", "-"), imagetest.Config{Platform: p}, imagetest.Files{"bin/app": p})
				byPlatform[p] = img
				all = append(all, img)
			}
			index, err := reg.AddIndex("app:1", all...)
			if err != nil {
				t.Fatal(err)
			}
			resolver := image.New(image.Options{Transport: reg, Arch: tc.arch})
			got, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app:1", Platform: tc.platform}, false)
			if tc.want == "" {
				wantError(t, err, image.ErrPlatform, "docker.io/library/app:1", "only for linux/")
				if strings.Contains(err.Error(), "unknown") {
					t.Errorf("error = %q lists what is no platform", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := byPlatform[tc.want]
			if got.Digest != index.Digest || got.Fingerprint != want.Fingerprint || got.Alias != "library/app:1@"+want.Digest {
				t.Errorf("got digest %s, fingerprint %s, alias %s; want the index %s and %+v", got.Digest, got.Fingerprint, got.Alias, index.Digest, want)
			}
		})
	}
}

// wantError checks an error's kind and that it says the parts.
func wantError(t *testing.T, err, kind error, parts ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error = %v, want %v", err, kind)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error = %q, want %q in it", err, p)
		}
	}
}

func TestPlatformIsListedWhenMissing(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{Platform: "linux/arm64"}, onlyFile)
	resolver := image.New(image.Options{Transport: reg, Arch: "amd64"})
	_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	wantError(t, err, image.ErrPlatform, "image docker.io/library/app:latest: wrong platform: it is not made for linux/amd64, only for linux/arm64")

	_, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app", Platform: "windows/amd64"}, false)
	wantError(t, err, image.ErrPlatform, "Incus runs containers of linux only")
	_, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app", Platform: "linux/amd64/v2/x"}, false)
	wantError(t, err, image.ErrInvalid, "write it as linux/arm64")

	add(t, reg, "silent", imagetest.Config{Platform: "none"}, onlyFile)
	resolve(t, reg, "silent") // says nothing of its platform: taken at its word
}

func TestIndexWithOddEntries(t *testing.T) {
	reg := imagetest.New()
	silent := add(t, reg, "app:silent", imagetest.Config{Platform: "none"}, imagetest.Files{"a": "silent"})
	arm := add(t, reg, "app:arm", imagetest.Config{Platform: "linux/arm64"}, imagetest.Files{"a": "arm"})
	_, err := reg.AddIndex("app:1", silent, arm)
	if err != nil {
		t.Fatal(err)
	}
	for arch, want := range map[string]imagetest.Image{"arm64": arm, "amd64": silent} {
		img, err := image.New(image.Options{Transport: reg, Arch: arch}).Resolve(t.Context(), plan.ImageRef{Ref: "app:1"}, false)
		if err != nil || img.Fingerprint != want.Fingerprint {
			t.Errorf("on %s: %s, %v, want %s", arch, img.Fingerprint, err, want.Fingerprint)
		}
	}
	reg.Inject(imagetest.Fault{Path: arm.Digest, Status: 404, Body: `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`})
	_, err = image.New(image.Options{Transport: reg, Arch: "arm64"}).Resolve(t.Context(), plan.ImageRef{Ref: "app:1"}, false)
	wantError(t, err, image.ErrNotFound, "docker.io has no manifest "+arm.Digest+" of library/app")
}

func TestContentTypeOfAStaticRegistry(t *testing.T) {
	for _, header := range []string{"", "text/plain", "application/json", "application/vnd.oci.image.index.v1+json; charset=utf-8"} {
		reg := imagetest.New()
		made := add(t, reg, "app:amd64", imagetest.Config{Platform: "linux/amd64"}, onlyFile)
		index, err := reg.AddIndex("app:1", made)
		if err != nil {
			t.Fatal(err)
		}
		resolver := image.New(image.Options{Transport: typed{reg, "/manifests/1", header}, Arch: "amd64"})
		img, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app:1"}, false)
		if err != nil || img.Digest != index.Digest || img.Fingerprint != made.Fingerprint {
			t.Errorf("an index as %q: %+v, %v", header, img, err)
		}
	}
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{}, onlyFile)
	if img := resolve(t, typed{reg, "/manifests/latest", "text/plain"}, "app"); img.Digest != made.Digest {
		t.Errorf("an image as text: %+v", img)
	}
}

// typed changes the content type of the answers under a path.
type typed struct {
	next         http.RoundTripper
	path, header string
}

func (o typed) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(req)
	if err == nil && strings.Contains(req.URL.Path, o.path) {
		resp.Header.Set("Content-Type", o.header)
	}
	return resp, err
}

func TestErrorKinds(t *testing.T) {
	unknown := func(code string) imagetest.Fault {
		return imagetest.Fault{Path: "/manifests/", Method: "GET", Status: 404, Body: `{"errors":[{"code":"` + code + `"}]}`}
	}
	for _, tc := range []struct {
		name  string
		fault imagetest.Fault
		kind  error
		say   string
	}{
		{"down", imagetest.Fault{Down: true}, image.ErrUnavailable, "connection refused"},
		{"down at the config", imagetest.Fault{Path: "/blobs/", Down: true}, image.ErrUnavailable, "connection refused"},
		{"no image", unknown("NAME_UNKNOWN"), image.ErrNotFound, "docker.io has no image library/app"},
		{"no tag", unknown("MANIFEST_UNKNOWN"), image.ErrNotFound, "docker.io has no tag 1 of library/app"},
		{"no reason", imagetest.Fault{Path: "/manifests/", Status: 404}, image.ErrNotFound, "docker.io has no image library/app, or no tag 1 of it"},
		{"no registry", imagetest.Fault{Status: 404}, image.ErrUnavailable, "so it is no registry"},
		{"a blob lost", imagetest.Fault{Path: "/blobs/", Status: 404}, image.ErrUnavailable, "or a damaged one"},
		{"forbidden", imagetest.Fault{Path: "/manifests/", Status: 403}, image.ErrUnauthorized, "docker.io has no public image library/app: check the name"},
		{"too many", imagetest.Fault{Path: "/manifests/", Status: 429}, image.ErrUnavailable, "docker.io limits how often it may be asked (429)"},
		{"broken", imagetest.Fault{Status: 500}, image.ErrUnavailable, "500"},
		{"overloaded", imagetest.Fault{Path: "/manifests/", Status: 503}, image.ErrUnavailable, "503"},
		{"a web page", imagetest.Fault{Path: "/manifests/", Status: 200, Body: "<html>"}, image.ErrFormat, "its manifest is damaged"},
		{"an empty manifest", imagetest.Fault{Path: "/manifests/", Status: 200, Body: "{}"}, image.ErrFormat, "names no config"},
		{"half a manifest", imagetest.Fault{Path: "/manifests/", Truncate: true}, image.ErrUnavailable, "unexpected EOF"},
		{"half a config", imagetest.Fault{Path: "/blobs/", Truncate: true}, image.ErrUnavailable, "unexpected EOF"},
		{"another config", imagetest.Fault{Path: "/blobs/", Status: 200, Body: "{}"}, image.ErrUnavailable, "docker.io"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := imagetest.New()
			add(t, reg, "app:1", imagetest.Config{}, onlyFile)
			mend := reg.Inject(tc.fault)
			resolver := image.New(image.Options{Transport: reg})
			_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app:1"}, false)
			wantError(t, err, tc.kind, "image docker.io/library/app:1: ", tc.say)
			if reg.Count("") > 3 {
				t.Errorf("asked again and again: %q", reg.Requests())
			}
			mend()
			_, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app:1"}, false)
			if err != nil {
				t.Errorf("once mended: %v", err)
			}
		})
	}
}

func TestArtifactsAreNoImages(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "chart", imagetest.Config{OCI: true, MediaType: "application/vnd.cncf.helm.config.v1+json"}, onlyFile)
	_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "chart"}, false)
	wantError(t, err, image.ErrFormat, "helm.config")
}

func TestHostThatIsAsked(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx": "registry-1.docker.io", "docker.io/a/b": "registry-1.docker.io", "localhost/app": "localhost",
		"localhost:5000/app": "localhost:5000", "ghcr.io/my.org/app": "ghcr.io", "quay.io/a@" + digest: "quay.io",
	} {
		asked := ""
		resolver := image.New(image.Options{Transport: hostOf{&asked}})
		_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: ref}, false)
		wantError(t, err, image.ErrUnavailable)
		if asked != want {
			t.Errorf("%s: asked %s, want %s", ref, asked, want)
		}
	}
}

// hostOf notes who is asked, and does not ask.
type hostOf struct{ host *string }

func (h hostOf) RoundTrip(req *http.Request) (*http.Response, error) {
	*h.host = req.URL.Host
	return nil, io.ErrClosedPipe
}

func TestAbsurdConfigIsNotRead(t *testing.T) {
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{Env: []string{"A=" + strings.Repeat("x", 4<<20)}}, onlyFile)
	_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "app@" + made.Digest}, false)
	wantError(t, err, image.ErrFormat, "absurdly large")
	if n := reg.Count("/blobs/"); n != 0 {
		t.Errorf("the config was asked for %d times", n)
	}
}

func TestOldSchemaIsRefused(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "old", imagetest.Config{}, onlyFile)
	old := typed{reg, "/manifests/", "application/vnd.docker.distribution.manifest.v1+prettyjws"}
	_, err := image.New(image.Options{Transport: old}).Resolve(t.Context(), plan.ImageRef{Ref: "old"}, false)
	wantError(t, err, image.ErrFormat, "schema 1")
}

func TestSlowRegistryMissesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := imagetest.New()
		reg.Inject(imagetest.Fault{Path: "/manifests/", Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := image.New(image.Options{Transport: reg}).Resolve(ctx, plan.ImageRef{Ref: "app"}, false)
		wantError(t, err, image.ErrUnavailable, "docker.io did not answer in time")
		if took := time.Since(start); took != time.Minute {
			t.Errorf("gave up after %s, want at the deadline", took)
		}
	})
}

func TestCancelledQuestionBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := imagetest.New()
		reg.Inject(imagetest.Fault{Hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := image.New(image.Options{Transport: reg}).Resolve(ctx, plan.ImageRef{Ref: "app"}, false)
		wantError(t, err, context.Canceled, "ask docker.io")
		if errors.Is(err, image.ErrUnavailable) {
			t.Errorf("error = %v: the registry is not to blame", err)
		}
	})
}

func TestSameQuestionsAreAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := imagetest.New()
		made := add(t, reg, "app", imagetest.Config{}, onlyFile)
		resolver := image.New(image.Options{Transport: slow{reg}})
		var wg sync.WaitGroup
		for _, ref := range []string{"app", "app:latest", "docker.io/library/app", "index.docker.io/app"} {
			wg.Go(func() {
				img, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: ref}, false)
				if err != nil || img.Digest != made.Digest {
					t.Errorf("%s: %s, %v", ref, img.Digest, err)
				}
			})
		}
		wg.Wait()
		if n := reg.Count("/manifests/"); n != 1 {
			t.Errorf("%d manifests were asked for, want 1: %q", n, reg.Requests())
		}
		_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
		if err != nil || reg.Count("/manifests/") != 2 {
			t.Errorf("a later question got %v, and was answered from a cache", err)
		}
	})
}

// slow takes a second for every request.
type slow struct{ next http.RoundTripper }

func (s slow) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Second):
		return s.next.RoundTrip(req)
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

func TestOneGivingUpDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := imagetest.New()
		made := add(t, reg, "app", imagetest.Config{}, onlyFile)
		resolver := image.New(image.Options{Transport: slow{reg}})
		hasty, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := resolver.Resolve(hasty, plan.ImageRef{Ref: "app"}, false)
			wantError(t, err, image.ErrUnavailable, "in time")
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				img, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
				if err != nil || img.Digest != made.Digest {
					t.Errorf("the patient one got %s, %v", img.Digest, err)
				}
			})
		}
		wg.Wait()
		if n := reg.Count("/manifests/"); n != 1 {
			t.Errorf("%d manifests were asked for, want 1", n)
		}
	})
}

func TestDigestAsksForTheHeadOnly(t *testing.T) {
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{}, onlyFile)
	resolver := image.New(image.Options{Transport: reg})
	got, err := resolver.Digest(t.Context(), plan.ImageRef{Ref: "app"})
	if err != nil || got != made.Digest {
		t.Fatalf("Digest = %s, %v, want %s", got, err, made.Digest)
	}
	want := []string{"GET /v2/", "HEAD /v2/library/app/manifests/latest"}
	if diff := cmp.Diff(want, reg.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	_, err = resolver.Digest(t.Context(), plan.ImageRef{Ref: "other"})
	wantError(t, err, image.ErrNotFound, "docker.io has no image library/other, or no tag latest of it")
	_, err = resolver.Digest(t.Context(), plan.ImageRef{Ref: "Other"})
	wantError(t, err, image.ErrInvalid)
}

func TestDigestOfARegistryThatDoesNotTellIt(t *testing.T) {
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{}, onlyFile)
	reg.Inject(imagetest.Fault{Method: "HEAD", Strip: []string{"Docker-Content-Digest"}})
	got, err := image.New(image.Options{Transport: reg}).Digest(t.Context(), plan.ImageRef{Ref: "app"})
	if err != nil || got != made.Digest {
		t.Fatalf("Digest = %s, %v, want %s", got, err, made.Digest)
	}
}

func TestPinnedReferenceKeepsItsDigest(t *testing.T) {
	reg := imagetest.New()
	first := add(t, reg, "app:1", imagetest.Config{Cmd: []string{"old"}}, onlyFile)
	add(t, reg, "app:1", imagetest.Config{Cmd: []string{"new"}}, onlyFile)
	got := resolve(t, reg, "app:1@"+first.Digest)
	if got.Digest != first.Digest || got.Cmd[0] != "old" || got.Ref != "docker.io/library/app:1@"+first.Digest {
		t.Errorf("got %s with %q, want the old one, %s", got.Ref, got.Cmd, first.Digest)
	}
	_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "app@" + digest}, false)
	wantError(t, err, image.ErrNotFound, "docker.io has no manifest "+digest+" of library/app")
}

func TestResolveOverANetwork(t *testing.T) {
	reg := imagetest.New()
	server := httptest.NewUnstartedServer(reg)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	made := add(t, reg, host+"/team/app:1", imagetest.Config{User: "app"}, imagetest.Files{"etc/passwd": "app:x:7:8::/:"})

	trusting := image.New(image.Options{Transport: server.Client().Transport, UserAgent: "ic-agent/test"})
	img, err := trusting.Resolve(t.Context(), plan.ImageRef{Ref: host + "/team/app:1"}, false)
	if err != nil || img.Digest != made.Digest || img.UID != 7 || img.GID != 8 || img.Server != server.URL {
		t.Fatalf("got %+v, %v", img, err)
	}
	mend := reg.Inject(imagetest.Fault{Path: made.Layers[0], Truncate: true})
	_, err = trusting.Resolve(t.Context(), plan.ImageRef{Ref: host + "/team/app:1"}, false)
	wantError(t, err, image.ErrUnavailable, "read a layer", "unexpected EOF")
	mend()
	_, err = image.New(image.Options{}).Resolve(t.Context(), plan.ImageRef{Ref: host + "/team/app:1"}, false)
	wantError(t, err, image.ErrUnavailable, "a certificate that this host does not trust: add its authority to the system's store")
	reg.Inject(imagetest.Fault{Down: true})
	_, err = trusting.Resolve(t.Context(), plan.ImageRef{Ref: host + "/team/app:1"}, false)
	wantError(t, err, image.ErrUnavailable, host)
}

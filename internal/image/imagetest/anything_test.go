package imagetest_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func resolve(t *testing.T, reg *imagetest.Registry, ref string) plan.Image {
	t.Helper()
	img, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: ref}, false)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestAnythingKnowsEveryImage(t *testing.T) {
	reg := imagetest.Anything()
	nginx := resolve(t, reg, "nginx:alpine")
	if !slices.Equal(nginx.Cmd, []string{"nginx", "-g", "daemon off;"}) || nginx.StopSignal != "SIGQUIT" || nginx.Env["PATH"] == "" {
		t.Errorf("nginx = %+v", nginx)
	}
	if img := resolve(t, reg, "memcached"); img.UID != 11211 || img.GID != 11211 {
		t.Errorf("memcached runs as %d:%d", img.UID, img.GID)
	}
	if img := resolve(t, reg, "ghcr.io/somebody/something:v3"); !slices.Equal(img.Cmd, []string{"sh"}) {
		t.Errorf("something = %+v", img)
	}
	if img := resolve(t, reg, "bitnami/redis:7"); img.Cwd != "/data" {
		t.Errorf("redis of another namespace = %+v", img)
	}
}

func TestAnythingIsTheSameEveryTime(t *testing.T) {
	a, b := resolve(t, imagetest.Anything(), "redis:7"), resolve(t, imagetest.Anything(), "redis:7")
	if a.Digest != b.Digest || a.Fingerprint != b.Fingerprint {
		t.Errorf("redis:7 was %s and is %s", a.Digest, b.Digest)
	}
	reg := imagetest.Anything()
	seen := map[string]string{}
	for _, ref := range []string{"redis:7", "redis:8", "valkey:8"} {
		img := resolve(t, reg, ref)
		if other := seen[img.Fingerprint]; other != "" {
			t.Errorf("%s has the fingerprint of %s", ref, other)
		}
		seen[img.Fingerprint] = ref
	}
	pinned := resolve(t, reg, "redis:7@"+a.Digest)
	if pinned.Fingerprint != a.Fingerprint {
		t.Errorf("redis:7 by digest has fingerprint %s, want %s", pinned.Fingerprint, a.Fingerprint)
	}
}

func TestAnythingLeavesWhatWasAdded(t *testing.T) {
	reg := imagetest.Anything()
	_, err := reg.Add("nginx:mine", imagetest.Config{Cmd: []string{"mine"}})
	if err != nil {
		t.Fatal(err)
	}
	if img := resolve(t, reg, "nginx:mine"); !slices.Equal(img.Cmd, []string{"mine"}) {
		t.Errorf("nginx:mine = %q", img.Cmd)
	}
}

func TestFaultsEnd(t *testing.T) {
	reg := imagetest.New()
	_, err := reg.Add("app", imagetest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	reg.Inject(imagetest.Fault{Times: 2})
	mend := reg.Inject(imagetest.Fault{Down: true})
	resolver := image.New(image.Options{Transport: reg})
	ask := func() error {
		_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
		return err
	}
	for i := range 3 {
		err := ask()
		if !errors.Is(err, image.ErrUnavailable) {
			t.Errorf("question %d = %v, want ErrUnavailable", i, err)
		}
	}
	mend()
	err = ask()
	if err != nil {
		t.Errorf("after the faults: %v", err)
	}
	if n := reg.Count("GET /v2/library/app/manifests/latest"); n != 1 {
		t.Errorf("%d manifests were asked for, want 1: %q", n, reg.Requests())
	}
}

func TestUnknownImagesAreMissing(t *testing.T) {
	resolver := image.New(image.Options{Transport: imagetest.New()})
	_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	if !errors.Is(err, image.ErrNotFound) {
		t.Errorf("error = %v, want ErrNotFound", err)
	}
}

package image_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken\nshort:x:1\nbad:x:one:2::/:\nweb:x:33:34::/:/bin/sh\nweb:x:1:1::/:\nlast:x:9:9"
	group  = "root:x:0:\nweb:x:34:a,b\n+nis\nstaff:x:50:web\nstaff:x:51:\n"
)

func TestNamesOfTheImage(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{User: "web:staff"}, imagetest.Files{"etc/passwd": passwd, "etc/group": group})
	img := resolve(t, reg, "app")
	users := map[string]plan.UserEntry{"root": {}, "web": {UID: 33, GID: 34}, "last": {UID: 9, GID: 9}}
	groups := map[string]uint32{"root": 0, "web": 34, "staff": 50}
	if diff := cmp.Diff([]any{users, groups, uint32(33), uint32(50)}, []any{img.Users, img.Groups, img.UID, img.GID}); diff != "" {
		t.Errorf("users, groups, uid, gid (-want +got):\n%s", diff)
	}
}

func TestNamesOnRequest(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{User: "33"}, imagetest.Files{"etc/passwd": passwd, "etc/group": group})
	resolver := image.New(image.Options{Transport: reg})
	img, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, true)
	if err != nil || img.Users["web"].UID != 33 || img.Groups["staff"] != 50 || img.GID != 34 {
		t.Errorf("with names: %+v, %v", img, err)
	}
	add(t, reg, "scratch", imagetest.Config{}, onlyFile)
	img, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "scratch"}, true)
	if err != nil || img.Users == nil || len(img.Users) > 0 {
		t.Errorf("without the files: %+v, %v", img, err)
	}
}

func TestUserOfTheImage(t *testing.T) {
	for _, tc := range []struct {
		user     string
		uid, gid uint32
	}{
		{"web", 33, 34}, {"web:root", 33, 0}, {"web:7", 33, 7}, {"7:staff", 7, 50}, {"33:7", 33, 7}, {"33", 33, 34},
	} {
		reg := imagetest.New()
		add(t, reg, "app", imagetest.Config{User: tc.user}, imagetest.Files{"etc/passwd": passwd, "etc/group": group})
		img := resolve(t, reg, "app")
		if img.User != tc.user || img.UID != tc.uid || img.GID != tc.gid {
			t.Errorf("USER %s = %d:%d, want %d:%d", tc.user, img.UID, img.GID, tc.uid, tc.gid)
		}
	}
}

func TestUnknownUserOfTheImage(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{User: "ghost"}, imagetest.Files{"etc/passwd": passwd})
	_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	wantError(t, err, image.ErrUser, `image docker.io/library/app:latest: USER ghost: unknown user: the image docker.io/library/app:latest has no user "ghost"`)
}

func TestPasswdIsTheOneOnTop(t *testing.T) {
	at := func(uid string) string { return "app:x:" + uid + ":1::/:\n" }
	for _, tc := range []struct {
		name   string
		layers []imagetest.Files // bottom first
		want   uint32            // of app; 0: there is no such user
	}{
		{"one layer", []imagetest.Files{{"etc/passwd": at("5")}}, 5},
		{"written with a dot", []imagetest.Files{{"./etc/passwd": at("5")}}, 5},
		{"written with a slash", []imagetest.Files{{"/etc/passwd": at("5")}}, 5},
		{"the upper of two", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/passwd": at("6")}}, 6},
		{"below unrelated layers", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/passwd-": at("6")}, {"usr/etc/passwd": at("7")}}, 5},
		{"removed", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh.passwd": ""}}, 0},
		{"removed and put back", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh.passwd": ""}, {"etc/passwd": at("6")}}, 6},
		{"removed below, there above", []imagetest.Files{{"etc/.wh.passwd": ""}, {"etc/passwd": at("6")}}, 6},
		{"replaced in one layer", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh.passwd": "", "etc/passwd": at("6")}}, 6},
		{"another file removed", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh.passwd-": ""}}, 5},
		{"directory removed", []imagetest.Files{{"etc/passwd": at("5")}, {".wh.etc": ""}}, 0},
		{"directory emptied", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh..wh..opq": ""}}, 0},
		{"directory emptied and filled", []imagetest.Files{{"etc/passwd": at("5")}, {"etc/.wh..wh..opq": "", "etc/passwd": at("6")}}, 6},
		{"another directory emptied", []imagetest.Files{{"etc/passwd": at("5")}, {"et/.wh..wh..opq": "", "etc/apt/.wh..wh..opq": ""}}, 5},
		{"root emptied", []imagetest.Files{{"etc/passwd": at("5")}, {".wh..wh..opq": ""}}, 0},
		{"a link", []imagetest.Files{{"usr/etc/passwd": at("5")}, {"etc/passwd": "-> ../usr/etc/passwd"}}, 5},
		{"a link from the root", []imagetest.Files{{"nix/store/x/passwd": at("5"), "etc/passwd": "-> /nix/store/x/passwd"}}, 5},
		{"a link to above", []imagetest.Files{{"etc/passwd": "-> users"}, {"etc/users": at("5")}}, 5},
		{"a link of a link", []imagetest.Files{{"etc/passwd": "-> a", "etc/a": "-> b", "etc/b": at("5")}}, 5},
		{"a link that leads out", []imagetest.Files{{"etc/passwd": "-> ../../../../users", "users": at("5")}}, 5},
		{"a link to nothing", []imagetest.Files{{"etc/passwd": "-> gone"}}, 0},
		{"a linked directory", []imagetest.Files{{"etc": "-> usr/etc", "usr/etc/passwd": at("5")}}, 5},
		{"a file for a directory", []imagetest.Files{{"etc/passwd": at("5")}, {"etc": "no directory"}}, 0},
		{"no layer", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := imagetest.New()
			add(t, reg, "app", imagetest.Config{}, tc.layers...)
			resolver := image.New(image.Options{Transport: reg})
			img, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, true)
			if err != nil {
				t.Fatal(err)
			}
			entry, ok := img.Users["app"]
			if entry.UID != tc.want || ok != (tc.want != 0) {
				t.Errorf("app is %d (%v), want %d", entry.UID, ok, tc.want)
			}
		})
	}
}

func TestLayersBelowAreLeftAlone(t *testing.T) {
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{User: "web"}, imagetest.Files{"big": "file"},
		imagetest.Files{"etc/passwd": passwd, "etc/group": group}, imagetest.Files{"bin/app": ""})
	resolve(t, reg, "app")
	for i, want := range []int{0, 1, 1} {
		if n := reg.Count(made.Layers[i]); n != want {
			t.Errorf("layer %d was asked for %d times, want %d", i, n, want)
		}
	}
}

func TestHostileLayers(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files imagetest.Files
		fault imagetest.Fault
		kind  error
		say   string
	}{
		{"a circle", imagetest.Files{"etc/passwd": "-> passwd"}, imagetest.Fault{Path: "none"}, image.ErrFormat, "circle of links"},
		{"a flood", imagetest.Files{"etc/passwd": strings.Repeat("x", 1<<20+1)}, imagetest.Fault{Path: "none"}, image.ErrFormat, "at most 1048576 are read"},
		{"cut short", imagetest.Files{"etc/passwd": passwd}, imagetest.Fault{Truncate: true}, image.ErrUnavailable, "unexpected EOF"},
		{"replaced", imagetest.Files{"etc/passwd": passwd}, imagetest.Fault{Status: 200, Body: "other"}, image.ErrUnavailable, "layer"},
		{"lost", imagetest.Files{"etc/passwd": passwd}, imagetest.Fault{Status: 404}, image.ErrUnavailable, "damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := imagetest.New()
			made := add(t, reg, "app", imagetest.Config{User: "web"}, tc.files)
			if tc.fault.Path == "" {
				tc.fault.Path = made.Layers[0]
			}
			reg.Inject(tc.fault)
			_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
			wantError(t, err, tc.kind, tc.say)
		})
	}
}

func TestLayerMustHaveItsDigest(t *testing.T) {
	reg := imagetest.New()
	made := add(t, reg, "app", imagetest.Config{User: "web"}, imagetest.Files{"etc/passwd": passwd, "etc/group": group})
	_, err := image.New(image.Options{Transport: forged{reg, made.Layers[0]}}).Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	wantError(t, err, image.ErrUnavailable, "error verifying sha256 checksum")
}

// forged changes a byte of one blob that unpacking does not look at: the system in gzip's header.
type forged struct {
	next http.RoundTripper
	blob string
}

func (f forged) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(req)
	if err != nil || !strings.Contains(req.URL.Path, f.blob) {
		return resp, err
	}
	data, err := io.ReadAll(resp.Body)
	data[9]++
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, err
}

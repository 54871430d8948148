package image_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// authFile writes an auth file.
func authFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.json")
	err := os.WriteFile(path, []byte(content), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The logins below: "me:secret", "me:wrong" and "other:secret" in base64.
const (
	me    = `{"auth":"bWU6c2VjcmV0"}`
	wrong = `{"auth":"bWU6d3Jvbmc="}`
	other = `{"auth":"b3RoZXI6c2VjcmV0"}`
)

func TestLoginOfTheAuthFile(t *testing.T) {
	for _, tc := range []struct {
		name, ref, file string
		want            error  // nil: let in
		say             string // FILE stands for the auth file's path
	}{
		{
			"none", "ghcr.io/team/app", `{}`, image.ErrUnauthorized,
			"ghcr.io has no public image team/app: check the name, or, when it is private, log in: skopeo login --authfile FILE ghcr.io",
		},
		{"for the registry", "ghcr.io/team/app", `{"auths":{"ghcr.io":` + me + `}}`, nil, ""},
		{"with a scheme", "ghcr.io/team/app", `{"auths":{"https://ghcr.io/":` + me + `}}`, nil, ""},
		{"in plain words", "ghcr.io/team/app", `{"auths":{"ghcr.io":{"username":"me","password":"secret"}}}`, nil, ""},
		{"for another registry", "ghcr.io/team/app", `{"auths":{"quay.io":` + me + `}}`, image.ErrUnauthorized, "log in"},
		{"for a registry whose name only ends alike", "ghcr.io/team/app", `{"auths":{"xghcr.io":` + me + `,"io":` + me + `}}`, image.ErrUnauthorized, "log in"},
		{"for the namespace", "ghcr.io/team/app", `{"auths":{"ghcr.io":` + other + `,"ghcr.io/team":` + me + `}}`, nil, ""},
		{"for the repository", "ghcr.io/team/app", `{"auths":{"ghcr.io/team":` + other + `,"ghcr.io/team/app":` + me + `}}`, nil, ""},
		{"for another namespace", "ghcr.io/team/app", `{"auths":{"ghcr.io":` + me + `,"ghcr.io/tea":` + other + `}}`, nil, ""},
		{"docker's key for the hub", "team/app", `{"auths":{"https://index.docker.io/v1/":` + me + `}}`, nil, ""},
		{"podman's key for the hub", "team/app", `{"auths":{"docker.io":` + me + `}}`, nil, ""},
		{
			"wrong", "ghcr.io/team/app", `{"auths":{"ghcr.io":` + wrong + `}}`, image.ErrUnauthorized,
			"ghcr.io refuses the login of me in FILE for team/app: log in again",
		},
		{"another user's", "ghcr.io/team/app", `{"auths":{"ghcr.io":` + other + `}}`, image.ErrUnauthorized, "the login of other"},
		{"kept by a helper", "ghcr.io/team/app", `{"auths":{"ghcr.io":{}},"credsStore":"ic-none"}`, image.ErrUnauthorized, "docker-credential-ic-none"},
		{"kept by the registry's helper", "ghcr.io/team/app", `{"credHelpers":{"ghcr.io":"../x"}}`, image.ErrUnauthorized, `"../x" is not the name of a credential helper`},
		{"damaged", "ghcr.io/team/app", `{"auths":`, image.ErrUnauthorized, "the auth file FILE is damaged"},
		{"damaged login", "ghcr.io/team/app", `{"auths":{"ghcr.io":{"auth":"!"}}}`, image.ErrUnauthorized, "the auth file FILE is damaged"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg := imagetest.New()
			add(t, reg, "ghcr.io/team/app", imagetest.Config{}, onlyFile)
			reg.RequireLogin("me", "secret")
			path := authFile(t, tc.file)
			resolver := image.New(image.Options{Transport: reg, AuthFiles: []string{path}})
			_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: tc.ref}, false)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantError(t, err, tc.want, strings.ReplaceAll(tc.say, "FILE", path))
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2Vjc") {
				t.Errorf("the error tells the password: %q", err)
			}
		})
	}
}

func TestLoginTakesEffectAtOnce(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{}, onlyFile)
	reg.RequireLogin("me", "secret")
	path := filepath.Join(t.TempDir(), "auth.json")
	resolver := image.New(image.Options{Transport: reg, AuthFiles: []string{path}})
	_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	wantError(t, err, image.ErrUnauthorized, "skopeo login --authfile "+path)

	err = os.WriteFile(path, []byte(`{"auths":{"docker.io":`+me+`}}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	if err != nil {
		t.Errorf("after the login: %v", err)
	}
}

func TestHomeIsNotLookedAt(t *testing.T) {
	home := t.TempDir()
	for _, dir := range []string{".docker", ".config/containers"} {
		err := os.MkdirAll(filepath.Join(home, dir), 0o700)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{".docker/config.json", ".config/containers/auth.json"} {
		err := os.WriteFile(filepath.Join(home, file), []byte(`{"auths":{"docker.io":`+me+`,"https://index.docker.io/v1/":`+me+`}}`), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", filepath.Join(home, ".docker"))
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(home, ".docker/config.json"))
	reg := imagetest.New()
	add(t, reg, "app", imagetest.Config{}, onlyFile)
	reg.RequireLogin("me", "secret")
	_, err := image.New(image.Options{Transport: reg}).Resolve(t.Context(), plan.ImageRef{Ref: "app"}, false)
	wantError(t, err, image.ErrUnauthorized, "configure an auth file")
}

func TestLoginIsNotSentInTheClear(t *testing.T) {
	reg := imagetest.New()
	add(t, reg, "10.0.0.9:5000/app", imagetest.Config{}, onlyFile)
	reg.RequireLogin("me", "secret")
	path := authFile(t, `{"auths":{"10.0.0.9:5000":`+me+`,"127.0.0.1:5000":`+me+`}}`)
	resolver := image.New(image.Options{Transport: onlyPlain{reg}, AuthFiles: []string{path}})
	_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "10.0.0.9:5000/app"}, false)
	wantError(t, err, image.ErrUnavailable, "10.0.0.9:5000 speaks no https, and a login is not sent in the clear")
	_, err = resolver.Resolve(t.Context(), plan.ImageRef{Ref: "127.0.0.1:5000/app"}, false)
	if err != nil {
		t.Errorf("on the loopback: %v", err)
	}
}

// onlyPlain is a registry without https.
type onlyPlain struct{ next http.RoundTripper }

func (o onlyPlain) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" {
		return nil, http.ErrSchemeMismatch
	}
	return o.next.RoundTrip(req)
}

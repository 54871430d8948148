package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// helperProgram puts a credential helper into the PATH.
func helperProgram(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestCredentialHelpersAreAsked(t *testing.T) {
	const answer = `read host; [ "$1 $host" = "get ghcr.io" ] || { echo "credentials not found in native keychain"; exit 1; }; echo '{"Username":"me","Secret":"secret"}'`
	for _, tc := range []struct {
		name, script, file string
		say                string // empty: let in
	}{
		{"the registry's own", answer, `{"credHelpers":{"ghcr.io":"test"}}`, ""},
		{"the common one", answer, `{"credsStore":"test"}`, ""},
		{"the common one, with an empty entry", answer, `{"auths":{"ghcr.io":{}},"credsStore":"test"}`, ""},
		{"one for another registry", answer, `{"credHelpers":{"quay.io":"test"}}`, "log in: skopeo login"},
		{"one without it", `echo "credentials not found in native keychain"; exit 1`, `{"credsStore":"test"}`, "log in: skopeo login"},
		{"one that fails", `echo secret; exit 3`, `{"credsStore":"test"}`, `failed (exit status 3): try "echo ghcr.io | docker-credential-test get"`},
		{"one that talks", `echo secret`, `{"credsStore":"test"}`, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			helperProgram(t, "test", tc.script)
			reg := imagetest.New()
			add(t, reg, "ghcr.io/team/app", imagetest.Config{}, onlyFile)
			reg.RequireLogin("me", "secret")
			resolver := image.New(image.Options{Transport: reg, AuthFiles: []string{authFile(t, tc.file)}})
			_, err := resolver.Resolve(t.Context(), plan.ImageRef{Ref: "ghcr.io/team/app"}, false)
			if tc.say == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantError(t, err, image.ErrUnauthorized, tc.say)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %q", err)
			}
		})
	}
}

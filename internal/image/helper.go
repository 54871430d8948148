package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// helperTime is how long a credential helper may take: one that asks somebody for a password never ends.
	helperTime = 10 * time.Second
	// maxHelper is how much of a helper's output is read, in bytes.
	maxHelper = 64 << 10
)

// notStored is what docker's helpers answer when they have no login.
const notStored = "credentials not found in native keychain"

// askHelper runs the credential helper "docker-credential-NAME get" for a registry, as docker does: the
// registry on its standard input, the login as JSON on its output. A helper without a login for it is no
// error. Nothing of what it prints reaches an error's text: it may be a password.
func askHelper(ctx context.Context, name, registry string) (authn.AuthConfig, bool, error) {
	program := "docker-credential-" + name
	if strings.ContainsAny(name, "/ ") {
		return authn.AuthConfig{}, false, fmt.Errorf("%w: %q is not the name of a credential helper", ErrUnauthorized, name)
	}
	limited, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	var out head
	cmd := exec.CommandContext(limited, program, "get")
	cmd.Stdin, cmd.Stdout = strings.NewReader(registry), &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case limited.Err() != nil:
		return authn.AuthConfig{}, false, fmt.Errorf("%w: the credential helper %s did not answer within %s: try \"echo %s | %s get\" as the user of this service",
			ErrUnauthorized, program, helperTime, registry, program)
	case err != nil && strings.Contains(out.String(), notStored):
		return authn.AuthConfig{}, false, nil
	case err != nil && cmd.ProcessState == nil:
		return authn.AuthConfig{}, false, fmt.Errorf("%w: run the credential helper for %s: %w: install it, or write the login into the auth file with skopeo login",
			ErrUnauthorized, registry, err)
	case err != nil:
		return authn.AuthConfig{}, false, fmt.Errorf("%w: the credential helper %s for %s failed (%s): try \"echo %s | %s get\" as the user of this service",
			ErrUnauthorized, program, registry, cmd.ProcessState, registry, program)
	}
	return helperLogin(program, out.Bytes())
}

// helperLogin reads a helper's answer; the user "<token>" stands for an identity token.
func helperLogin(program string, out []byte) (authn.AuthConfig, bool, error) {
	var answer struct{ Username, Secret string }
	err := json.Unmarshal(out, &answer)
	if err != nil || answer.Secret == "" {
		return authn.AuthConfig{}, false, fmt.Errorf("%w: the answer of the credential helper %s cannot be read", ErrUnauthorized, program)
	}
	if answer.Username == "<token>" {
		return authn.AuthConfig{IdentityToken: answer.Secret}, true, nil
	}
	return authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, true, nil
}

// head is a buffer that takes no more than maxHelper bytes.
type head struct{ bytes.Buffer }

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	if h.Len()+len(p) > maxHelper {
		return 0, errors.New("too long")
	}
	return h.Buffer.Write(p)
}

package image

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// The kinds of errors; each comes wrapped with the reference and says what was found and what to do.
var (
	// ErrInvalid: the reference or the platform cannot mean anything. Only an edit helps.
	ErrInvalid = errors.New("invalid reference")
	// ErrNotFound: the registry answered that it has no such image or tag.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry wants a login, or another one.
	ErrUnauthorized = errors.New("not allowed")
	// ErrUnavailable: the registry or the way to it is down, slow, overloaded or gives damaged answers.
	// The one kind that time may mend.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrPlatform: the image exists, but not for this platform.
	ErrPlatform = errors.New("wrong platform")
	// ErrFormat: what the reference names is not an image that can run.
	ErrFormat = errors.New("not a usable image")
	// ErrUser: the image has no such user or group.
	ErrUser = errors.New("unknown user")
)

// explain gives an error of a registry its kind and says in words what happened. Errors that have a kind
// already pass.
func (c *conversation) explain(ctx context.Context, err error) error {
	host := c.src.host
	var answer *transport.Error
	var waits *held
	switch {
	case errors.Is(err, ErrFormat), errors.Is(err, ErrPlatform), errors.Is(err, ErrUser), errors.Is(err, ErrInvalid):
		return err
	case ctx.Err() != nil:
		return gaveUp(ctx, c.src)
	case errors.As(err, &waits):
		return fmt.Errorf("%w: %w%s", ErrUnavailable, waits, c.raiseLimit())
	case untrusted(err):
		return fmt.Errorf("%w: %s shows a certificate that this host does not trust: add its authority to the system's store or to /etc/containers/certs.d/%s, or name it in registry.insecure: %w",
			ErrUnavailable, host, host, err)
	case errors.As(err, &answer):
		return c.explainAnswer(answer)
	case errors.Is(err, remote.ErrSchema1):
		return fmt.Errorf("%w: %s has it only in the format of 2015 (schema 1): have it pushed again", ErrFormat, host)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, host, err)
}

// gaveUp is the error of a ctx that ended before the registry answered: a registry too slow for its deadline
// is unavailable, a cancelled question says nothing about the registry.
func gaveUp(ctx context.Context, src source) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("ask %s: %w", src.host, context.Canceled)
	}
	return fmt.Errorf("%w: %s did not answer in time: %w", ErrUnavailable, src.host, ctx.Err())
}

// explainAnswer is explain for an answer that is an HTTP error.
func (c *conversation) explainAnswer(e *transport.Error) error {
	host := c.src.host
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrUnauthorized, c.wantsLogin())
	case http.StatusNotFound:
		return c.explainMissing(e)
	case http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s limits how often it may be asked (429)%s", ErrUnavailable, host, c.raiseLimit())
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, host, e)
}

// wantsLogin says what to do about a 401 or 403. Registries give it for images that do not exist too, so as
// not to tell strangers the names of private ones.
func (c *conversation) wantsLogin() string {
	host, file := c.src.host, c.authFile
	switch {
	case c.login:
		return fmt.Sprintf("%s refuses the login of %s in %s for %s: log in again", host, c.user, file, c.src.path)
	case file == "":
		return fmt.Sprintf("%s has no public image %s: check the name, or, when it is private, configure an auth file", host, c.src.path)
	}
	return fmt.Sprintf("%s has no public image %s: check the name, or, when it is private, log in: skopeo login --authfile %s %s",
		host, c.src.path, file, host)
}

// raiseLimit says how to be limited less.
func (c *conversation) raiseLimit() string {
	if c.login || c.authFile == "" {
		return ""
	}
	return fmt.Sprintf(": a login raises the limit: skopeo login --authfile %s %s", c.authFile, c.src.host)
}

// explainMissing tells a missing tag, repository and registry apart.
func (c *conversation) explainMissing(e *transport.Error) error {
	host, repository := c.src.host, c.src.path
	requested := ""
	if e.Request != nil {
		requested = e.Request.URL.Path
	}
	what := "tag " + path.Base(requested)
	if strings.Contains(what, ":") {
		what = "manifest " + path.Base(requested)
	}
	switch {
	case !strings.Contains(requested, "/manifests/"):
		return fmt.Errorf("%w: %s has no %s, so it is no registry, or a damaged one", ErrUnavailable, host, requested)
	case len(e.Errors) > 0 && e.Errors[0].Code == transport.NameUnknownErrorCode:
		return fmt.Errorf("%w: %s has no image %s", ErrNotFound, host, repository)
	case len(e.Errors) > 0 && e.Errors[0].Code == transport.ManifestUnknownErrorCode:
		return fmt.Errorf("%w: %s has no %s of %s", ErrNotFound, host, what, repository)
	}
	return fmt.Errorf("%w: %s has no image %s, or no %s of it", ErrNotFound, host, repository, what)
}

func untrusted(err error) bool {
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid)
}

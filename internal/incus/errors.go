package incus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// Kinds of errors, for errors.Is. An error may be of several kinds; its text is what Incus said.
var (
	// ErrUnavailable: Incus cannot be reached, does not answer in time, or answers with garbage.
	ErrUnavailable = errors.New("incus is unavailable")
	// ErrForbidden: Incus, or its socket, refuses us (group or certificate lost).
	ErrForbidden = errors.New("incus forbids it")
	// ErrNotFound: the object, its project or its image does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is an object of that name already.
	ErrExists = errors.New("already exists")
	// ErrInUse: a name, address or port belongs to something else, or the object is still used.
	ErrInUse = errors.New("in use")
	// ErrBusy: another operation held the instance for longer than we are ready to wait.
	ErrBusy = errors.New("busy")
	// ErrConflict: somebody else changed the object each time we tried (HTTP 412).
	ErrConflict = errors.New("changed by somebody else meanwhile")
	// ErrRefused: Incus does not accept a value; the same call will fail again.
	ErrRefused = errors.New("refused")
	// ErrProgram: the instance's program cannot be run: it is not there, or is none.
	ErrProgram = errors.New("its program cannot be run")
	// ErrMismatch: the registry gave another image than the one asked for. It is an ErrRefused too.
	ErrMismatch = errors.New("another image than expected")
	// ErrRegistry: Incus could not fetch the image just now; it may exist.
	ErrRegistry = errors.New("image registry is unavailable")
	// ErrUnsupported: this Incus is too old, or lacks an extension.
	ErrUnsupported = errors.New("not supported by this Incus")
	// ErrNoSpace: the storage pool or the disk is full.
	ErrNoSpace = errors.New("no space left")
	// ErrRootless: the instance has no root filesystem, or not all of one, as after a rebuild that was broken off.
	ErrRootless = errors.New("no root filesystem")
	// ErrFailed: Incus tried and it failed (an app that does not start, a broken hook).
	ErrFailed = errors.New("failed")
	// ErrUnknownOutcome: the call was sent and nobody knows how it ended; look again.
	ErrUnknownOutcome = errors.New("outcome unknown")

	errRunning = errors.New("already running")
	errStopped = errors.New("already stopped")
)

// kinded is an error with its kinds. The kinds do not show in the text.
type kinded struct {
	err   error
	kinds []error
}

func (e kinded) Error() string   { return e.err.Error() }
func (e kinded) Unwrap() []error { return append([]error{e.err}, e.kinds...) }

// dialError says that a connection was never opened, so nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// texts maps what Incus says to kinds: the first text that occurs, in lower case, decides. Failed operations
// have no other mark.
var texts = []struct {
	text string
	kind error
}{
	{"incus is shutting down", ErrUnavailable}, // for as long as operations keep it, which may be a minute
	{"instance is busy running a", ErrBusy},
	{"invalid pid -1", ErrBusy}, // of the state of one that is about to be cleared up
	{"a matching non-reusable operation has now succeeded", ErrBusy},
	{"the instance is already running", errRunning},
	{"the instance is already stopped", errStopped},
	{"instance storage pool not found", ErrRootless}, // there is no record of its root volume
	// Not each "failed to handle idmapped storage": a kernel that cannot do it says so too, and a full disk.
	{"failed to handle idmapped storage: failed expanding symlinks", ErrRootless},
	{"that has snapshots", ErrRefused},
	{"etag doesn't match", ErrConflict},
	{"no space left on device", ErrNoSpace},
	{"disk quota exceeded", ErrNoSpace},
	{"run out of disk space", ErrNoSpace},
	{"already used on network", ErrInUse},
	{"already defined on another nic", ErrInUse},
	{"address already in use", ErrInUse},
	{"\" already in use", ErrExists},
	{"snapshot not found", ErrNotFound},
	{"is still in use", ErrInUse},
	{"used by running instances", ErrInUse},
	{"is currently in use", ErrInUse},
	{"only empty projects can be removed", ErrInUse},
	{"instance must be stopped", ErrInUse},
	{"already exists", ErrExists},
	{"already in trust store", ErrExists},
	{"image not provided for instance", ErrNotFound},
	{"instance not found", ErrNotFound},
	{"image not found", ErrNotFound},
	{"project not found", ErrNotFound},
	{"network not found", ErrNotFound},
	{"storage pool not found", ErrNotFound},
	{"storage volume not found", ErrNotFound},
	{"invalid config", ErrRefused},
	{"invalid devices", ErrRefused},
	{"invalid value", ErrRefused},
	{"invalid option", ErrRefused},
	{"unknown configuration key", ErrRefused},
	{"cannot contain line breaks", ErrRefused},
	{"unable to encode command argument", ErrRefused},
	{"device cannot be added when instance is running", ErrRefused},
	{"are forbidden", ErrRefused},
	{"no root device could be found", ErrRefused},
	{"missing source path", ErrRefused},
	{"instance is running", ErrInUse},
	{"api extension", ErrUnsupported},
}

// statuses maps HTTP codes to kinds where the text says nothing.
var statuses = map[int]error{
	http.StatusBadRequest:            ErrRefused,
	http.StatusUnauthorized:          ErrForbidden,
	http.StatusForbidden:             ErrForbidden,
	http.StatusNotFound:              ErrNotFound,
	http.StatusConflict:              ErrInUse,
	http.StatusPreconditionFailed:    ErrConflict,
	http.StatusRequestEntityTooLarge: ErrRefused,
	http.StatusInternalServerError:   ErrFailed,
	http.StatusNotImplemented:        ErrUnsupported,
	http.StatusBadGateway:            ErrUnavailable,
	http.StatusServiceUnavailable:    ErrUnavailable,
	http.StatusGatewayTimeout:        ErrUnavailable,
}

// classify gives the error of a call its kinds; change tells that the call may have changed something.
func classify(ctx context.Context, err error, change bool) error {
	if err == nil {
		return nil
	}
	status, answered := errors.AsType[api.StatusError](err)
	if answered {
		return said(status.Error(), status.Status())
	}
	// The library's text would be 'Get "https://custom.socket/1.0/…": …'.
	at, wrapped := errors.AsType[*url.Error](err)
	if wrapped {
		err = at.Err
	}
	kinds := []error{}
	var dial dialError
	switch {
	case errors.As(err, &dial):
		change = false
		kinds = append(kinds, ErrUnavailable)
		if errors.Is(err, fs.ErrPermission) {
			kinds = append(kinds, ErrForbidden)
		}
		err = fmt.Errorf("connect to Incus: %w", err)
	case errors.Is(ctx.Err(), context.Canceled):
		err = context.Canceled
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		kinds = append(kinds, ErrUnavailable)
		err = fmt.Errorf("no answer from Incus: %w", context.DeadlineExceeded)
	case broken(err):
		kinds = append(kinds, ErrUnavailable)
		err = fmt.Errorf("talk to Incus: %w", err)
	default:
		kinds = append(kinds, kindOf(err.Error(), ErrFailed))
		change = false
	}
	if change {
		kinds = append(kinds, ErrUnknownOutcome)
	}
	return kinded{err, kinds}
}

// broken tells that the connection or the answer was cut or garbled.
func broken(err error) bool {
	var op *net.OpError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.As(err, &op) || errors.As(err, &syntax) || errors.As(err, &kind) ||
		strings.HasPrefix(err.Error(), "Failed to fetch ") || // the library's word for a body that is not JSON
		strings.HasPrefix(err.Error(), "net/http: ") || strings.HasPrefix(err.Error(), "http: ") ||
		strings.Contains(err.Error(), "malformed HTTP")
}

// said gives words of Incus their kind; status is 0 for a failed operation.
func said(text string, status int) error {
	if strings.Contains(text, "skopeo") {
		return skopeo(text)
	}
	fallback, ok := statuses[status]
	if !ok {
		fallback = ErrFailed
	}
	kind := kindOf(text, fallback)
	if status == http.StatusNotFound && !errors.Is(kind, ErrRootless) {
		kind = ErrNotFound
	}
	return kinded{errors.New(text), []error{kind}}
}

// rootfs is the root filesystem of an instance that is not there; a mount of a user's may be called so too.
var rootfs = regexp.MustCompile(`/(?:containers|virtual-machines)(?:-snapshots)?/[^/ "]+/rootfs: no such file or directory`)

func kindOf(text string, fallback error) error {
	text = strings.ToLower(text)
	if rootfs.MatchString(text) {
		return ErrRootless
	}
	for _, t := range texts {
		if strings.Contains(text, t.text) {
			return t.kind
		}
	}
	return fallback
}

var skopeoMsg = regexp.MustCompile(`msg="((?:[^"\\]|\\.)*)"`)

// absent are the words registries use for an image that is not there, or not for us.
var absent = []string{"manifest unknown", "name unknown", "not found", "denied", "unauthorized", "authentication required", "no image found in manifest list"}

// skopeo picks the cause out of a failed skopeo run, which Incus quotes whole.
func skopeo(text string) error {
	if strings.Contains(text, `requires "skopeo"`) {
		return kinded{errors.New(text), []error{ErrUnsupported}}
	}
	msg := text
	all := skopeoMsg.FindAllStringSubmatch(text, -1)
	if len(all) > 0 {
		msg = strings.ReplaceAll(all[len(all)-1][1], `\"`, `"`)
	}
	lower := strings.ToLower(msg)
	if strings.Contains(lower, "no space left on device") {
		return kinded{errors.New(msg), []error{ErrNoSpace}}
	}
	if strings.Contains(lower, "invalid reference format") {
		return kinded{errors.New(msg), []error{ErrRefused}}
	}
	for _, a := range absent {
		if strings.Contains(lower, a) {
			return kinded{fmt.Errorf("no such image, or not without a login: %s", msg), []error{ErrNotFound}}
		}
	}
	return kinded{fmt.Errorf("registry: %s", msg), []error{ErrRegistry}}
}

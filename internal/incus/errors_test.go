package incus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/lxc/incus/v6/shared/api"
)

// kinds are all there are, by name, so that a test can say what an error is and what it is not.
var kinds = map[string]error{
	"unavailable": ErrUnavailable, "forbidden": ErrForbidden, "not found": ErrNotFound, "exists": ErrExists, "in use": ErrInUse, "busy": ErrBusy,
	"conflict": ErrConflict, "refused": ErrRefused, "mismatch": ErrMismatch, "registry": ErrRegistry, "unsupported": ErrUnsupported,
	"no space": ErrNoSpace, "failed": ErrFailed, "unknown": ErrUnknownOutcome, "rootless": ErrRootless, "running": errRunning, "stopped": errStopped,
}

func wantKinds(t *testing.T, err error, want ...string) {
	t.Helper()
	for name, kind := range kinds {
		is, should := errors.Is(err, kind), false
		for _, w := range want {
			if kinds[w] == nil {
				t.Fatalf("no kind %q", w)
			}
			should = should || w == name
		}
		if is != should {
			t.Errorf("%v: is %q: %v, want %v", err, name, is, should)
		}
	}
}

// Each message was seen from an Incus 7.0.2, or stands in its source.
func TestWhatIncusSaysHasAKind(t *testing.T) {
	for _, tc := range []struct {
		status int // 0 for a failed operation
		text   string
		want   string
	}{
		{500, `Failed to create instance update operation: Instance is busy running a "stop" operation`, "busy"},
		{0, `Failed to create instance update operation: Instance is busy running a "start" operation`, "busy"},
		{0, "Failed to create instance update operation: A matching non-reusable operation has now succeeded", "busy"},
		{0, `Failed to handle idmapped storage: Failed expanding symlinks of "": lstat /var/lib/incus/containers/web: no such file or directory`, "rootless"},
		{404, "Failed to write backup file: Failed getting instance pool: Instance storage pool not found", "rootless"},
		{0, `lstat /var/lib/incus/storage-pools/default/containers/blog_web/rootfs: no such file or directory`, "rootless"},
		{0, `Failed to handle idmapped storage: idmapping abilities are required but aren't supported on system`, "failed"},
		{0, `Failed to handle idmapped storage: no space left on device`, "no space"},
		{0, `Failed to start device "vol-x": stat /srv/build/rootfs: no such file or directory`, "failed"},
		{0, "The instance is already running", "running"},
		{0, "The instance is already stopped", "stopped"},
		{412, "ETag doesn't match: b84e vs abc", "conflict"},
		{0, `Failed start validation for device "eth0": IP address "10.9.1.5" already defined on another NIC`, "in use"},
		{0, `Failed start validation for device "eth0": Instance DNS name "web" already used on network`, "in use"},
		{0, `Failed to start device "p": Error occurred when starting proxy device: Failed to listen on 0.0.0.0:80: listen tcp 0.0.0.0:80: bind: address already in use`, "in use"},
		{400, `Snapshot "ic-agent-20261125-030000" already in use`, "exists"},
		{0, "Snapshot not found", "not found"},
		{400, "The network is currently in use", "in use"},
		{400, "The storage volume is still in use", "in use"},
		{500, "Only empty projects can be removed.", "in use"},
		{400, "Instance is running", "in use"},
		{400, "Instance must be stopped to be rebuilt", "in use"},
		{500, `Instance "web" already exists`, "exists"},
		{409, `Network "n1" already exists`, "exists"},
		{409, "Certificate already in trust store", "exists"},
		{409, "Volume by that name already exists", "exists"},
		{409, `Failed creating project "p1": Failed adding database record: This "Project" entry already exists`, "exists"},
		{404, `Failed to fetch instance "nope" in project "p1": Instance not found`, "not found"},
		{404, "Failed loading network: Network not found", "not found"},
		{404, "Not Found", "not found"},
		{0, "Image not provided for instance creation", "not found"},
		{0, "Image not provided for instance rebuild", "not found"},
		{0, `Failed creating instance record: Failed initializing instance: Failed add validation for device "x": Failed loading custom volume: Storage volume not found`, "not found"},
		{0, `Failed creating instance record: Failed initializing instance: Invalid devices: Device validation failed for "x": Failed loading device "x": Failed to load network "nope" for project "default": Network not found`, "not found"},
		{500, "Invalid config: Unknown configuration key: bogus", "refused"},
		{0, "Failed creating instance record: Unknown configuration key: bogus", "refused"},
		{0, "Failed creating instance record: Invalid value: zzz", "refused"},
		{0, "Failed creating instance record: Environment variables cannot contain line breaks", "refused"},
		{0, "Unable to encode command argument", "refused"},
		{0, `Failed creating instance record: Failed initializing instance: Invalid devices: Device validation failed for "x": Invalid device option "bogus"`, "refused"},
		{0, "Failed creating instance record: Failed initializing instance: Failed getting root disk: No root device could be found", "refused"},
		{500, `Failed to add device "x": Device cannot be added when instance is running`, "refused"},
		{500, `Failed add validation for device "x": Missing source path "/nonexist" for disk "x"`, "refused"},
		{500, `Invalid option for network "n4" option "bogus"`, "refused"},
		{500, `Invalid value for network "n5" option "ipv4.address": invalid CIDR address: zzz`, "refused"},
		{400, "Invalid network name: Network interface is too long (maximum 15 characters)", "refused"},
		{500, `Failed checking if instance update allowed: Proxy devices are forbidden`, "refused"},
		{400, "http: request body too large", "refused"},
		{403, "Certificate is restricted", "forbidden"},
		{503, "Service Unavailable", "unavailable"},
		{503, "Incus is shutting down", "unavailable"},
		{0, "Incus is shutting down", "unavailable"},
		{502, "Bad Gateway", "unavailable"},
		{0, "Failed to run: mkfs: write /x: no space left on device", "no space"},
		{500, "Disk quota exceeded", "no space"},
		{500, `The server is missing the required "instances_rebuild" API extension`, "unsupported"},
		{0, `Failed shutting down instance, status is "Running": context deadline exceeded`, "failed"},
		{0, "Failed to run: forkstart web: exit status 1", "failed"},
		{409, "Something new in the way", "in use"},
		{500, "Something new", "failed"},
	} {
		err := said(tc.text, tc.status)
		wantKinds(t, err, tc.want)
		if err.Error() != tc.text {
			t.Errorf("%q became %q", tc.text, err)
		}
	}
}

func TestTheCauseIsPickedOutOfSkopeo(t *testing.T) {
	quote := func(ref, msg string) string {
		return fmt.Sprintf(`Failed getting remote image info: Failed to run: skopeo --insecure-policy inspect docker://%s --no-tags: exit status 2 (time="2026-11-22T00:27:25Z" level=fatal msg="Error parsing image name \"docker://%s\": %s")`, ref, ref, msg)
	}
	for _, tc := range []struct{ text, want, says string }{
		{quote("docker.io/library/nonesuch", "reading manifest latest in docker.io/library/nonesuch: manifest unknown"), "not found", "manifest unknown"},
		{quote("docker.io/x/y", "reading manifest latest in docker.io/x/y: requested access to the resource is denied"), "not found", "login"},
		{quote("ghcr.io/x/y", "unable to retrieve auth token: invalid username/password: unauthorized"), "not found", "login"},
		{quote("docker.invalid/x", `pinging container registry docker.invalid: Get \"https://docker.invalid/v2/\": dial tcp: lookup docker.invalid: no such host`), "registry", "no such host"},
		{quote("docker.io/x", "pinging container registry docker.io: dial tcp 1.2.3.4:443: connect: connection refused"), "registry", "connection refused"},
		{quote("docker.io/x", "toomanyrequests: You have reached your pull rate limit"), "registry", "rate limit"},
		{quote("docker.io/BusyBox", "invalid reference format: repository name must be lowercase"), "refused", "lowercase"},
		{quote("docker.io/x", "writing blob: write /var/lib/incus/x: no space left on device"), "no space", "no space"},
		{`OCI container handling requires "skopeo" be present on the system`, "unsupported", "skopeo"},
	} {
		err := said(tc.text, 0)
		wantKinds(t, err, tc.want)
		if !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "exit status") {
			t.Errorf("%q became %q", tc.text, err)
		}
	}
}

func TestWhatTheConnectionDoesHasAKind(t *testing.T) {
	alive := t.Context()
	ended, cancel := context.WithCancel(alive)
	cancel()
	late, cancelLate := context.WithTimeout(alive, 0)
	defer cancelLate()
	get := func(err error) error { return &url.Error{Op: "Get", URL: "https://custom.socket/1.0", Err: err} }
	dialed := func(errno syscall.Errno) error {
		return dialError{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", errno)}}
	}
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		err    error
		change bool
		want   []string
	}{
		{"nothing listens", alive, get(dialed(syscall.ECONNREFUSED)), true, []string{"unavailable"}},
		{"no socket", alive, get(dialed(syscall.ENOENT)), false, []string{"unavailable"}},
		{"not in the group", alive, get(dialed(syscall.EACCES)), false, []string{"unavailable", "forbidden"}},
		{"cut while reading", alive, get(io.EOF), false, []string{"unavailable"}},
		{"cut while changing", alive, get(io.ErrUnexpectedEOF), true, []string{"unavailable", "unknown"}},
		{"too late to read", late, get(context.DeadlineExceeded), false, []string{"unavailable"}},
		{"too late to know", late, get(context.DeadlineExceeded), true, []string{"unavailable", "unknown"}},
		{"we gave up reading", ended, get(context.Canceled), false, nil},
		{"we gave up changing", ended, get(context.Canceled), true, []string{"unknown"}},
		{"not JSON", alive, errors.New("Failed to fetch https://custom.socket/1.0: 502 Bad Gateway"), false, []string{"unavailable"}},
		{"Incus refuses", alive, api.StatusErrorf(404, "Instance not found"), true, []string{"not found"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := classify(tc.ctx, tc.err, tc.change)
			wantKinds(t, err, tc.want...)
			if strings.Contains(err.Error(), "custom.socket") && !strings.HasPrefix(err.Error(), "talk to Incus: Failed") {
				t.Errorf("the text shows the library's address: %v", err)
			}
			if errors.Is(err, context.Canceled) != (tc.ctx == ended) {
				t.Errorf("canceled: %v", errors.Is(err, context.Canceled))
			}
		})
	}
	if classify(alive, nil, true) != nil {
		t.Error("no error became one")
	}
}

// Package conformance says what internal/incus promises, as tests that run alike against incustest and against a
// real Incus 7.0.1 or newer. It makes projects, bridges and instances whose names begin with "ct" and removes them
// again; it touches nothing else.
package conformance

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"testing"
	"time"

	incusapi "github.com/lxc/incus/v6/client"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// Host is an Incus to test against.
type Host struct {
	// Dial opens a connection to it.
	Dial func(context.Context) (net.Conn, error)
	// Image is an image its registry offers, with a shell and sleep: Server, Alias and Fingerprint.
	Image plan.Image
	// Behave makes the app of an instance ignore the stop signal; nil where its command line does.
	Behave func(project, name string)
	// Lack makes the app of an instance a program that does not exist; nil where its command line does.
	Lack func(project, name, program string)
	// Echo makes the app of an instance send back what it gets on a port; nil where its command line does.
	Echo func(project, name string, port int)
	// Says makes the app of an instance have written a text; nil where its command line does.
	Says func(project, name, text string)
	// Shell makes an instance run the commands of this suite: kill, which ends its app, and a script that ends with 3
	// and writes "broken"; nil where there is a shell.
	Shell func(project, name string)
	// Exit ends the app of an instance from within; nil where it ends by itself a second after its start.
	Exit func(project, name string)
}

// The command lines of apps on a real Incus, as PID 1 like the agent's.
var (
	obedient = app("/bin/sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.1; done'")
	stubborn = app("/bin/sleep 1000")
	brief    = app("/bin/sleep 1")
	instant  = app("/bin/true")
	echoing  = app("/bin/busybox nc -ll -p 7000 -e /bin/cat")
	missing  = app(noProgram)
)

// noProgram is what no image has.
const noProgram = "/no/such"

func app(argv string) map[string]string {
	return map[string]string{"raw.lxc": "lxc.execute.cmd=\nlxc.init.cmd=" + argv + "\nlxc.signal.halt=SIGTERM\nlxc.log.level=info\n"}
}

// Run runs the suite. Every test gets a Host of its own from open. wrap runs a test's body: synctest.Test puts it
// into a bubble; nil, for a real Incus, just calls it.
func Run(t *testing.T, wrap func(*testing.T, func(*testing.T)), open func(*testing.T) Host) {
	if wrap == nil {
		wrap = func(t *testing.T, body func(*testing.T)) { body(t) }
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			wrap(t, func(t *testing.T) {
				h := open(t)
				c.test(newSuite(t, h))
			})
		})
	}
}

var cases = []struct {
	name string
	test func(*suite)
}{
	{"the server tells its version, pool and live keys", serverIsDescribed},
	{"an absent project is observed as empty", absentProject},
	{"a project is made, changed and deleted once", projectLife},
	{"a project with something in it is not deleted", projectInUse},
	{"a network is made, changed and deleted once", networkLife},
	{"a network in use is not deleted", networkInUse},
	{"a network whose maker went away is never finished, and can be made anew", networkPending},
	{"a volume is made once and observed with its users", volumeLife},
	{"a volume tells what is in it", volumeWithin},
	{"a fresh volume gets an image's files once, never over data, and from where there are any", volumeSeeded},
	{"a volume's snapshots are taken once, restored while nothing uses it, and deleted", volumeSnapshots},
	{"an image is pulled and kept", imagePulled},
	{"an image carries what is noted of it", imageNoted},
	{"an image of the same layers with another config is refused", imageCollides},
	{"an image is deleted when it is ours", imageDeleted},
	{"another image than wanted is an error", imageMismatch},
	{"an image that does not exist is not found", imageAbsent},
	{"an image that is sent is kept, with its owner", imageSent},
	{"a certificate is trusted once, as it was first said, and forgotten", certificateLife},
	{"an instance is created running with its address", createRunning},
	{"an instance has what was said and nothing else", createExactly},
	{"a second instance of that name is refused", createTwice},
	{"an instance that cannot be is refused with the reason", createRefused},
	{"a live key is changed and others are left alone", updateLive},
	{"a key is unset", updateUnset},
	{"a device is removed", updateRemovesDevice},
	{"two changes at once both arrive", updateConcurrently},
	{"a change of what is stopped does not reach what somebody has started", updateStopped},
	{"volatile keys are not touched", updateVolatile},
	{"starting what runs is a success", startTwice},
	{"a start right after an end is a run of its own", startAfterEnd},
	{"a program that does not exist is named, and reads as 127", startMissing},
	{"what an app wrote last is read", lastWords},
	{"a signal reaches the app", signal},
	{"hooks are run once for a start, and their failure is told", postStart},
	{"an app that obeys ends within its grace", stopObedient},
	{"an app that ignores the stop is ended", stopStubborn},
	{"an instance that is being stopped is busy", busyWhileStopping},
	{"a stop leaves its mark, also where somebody else was at it", stopMarks},
	{"a rebuild keeps all but the files", rebuildKeeps},
	{"a rebuild that cannot be is refused", rebuildRefused},
	{"a file is pushed with its directories, owner and mode", pushFile},
	{"mount points are made where nothing is", makeTargets},
	{"an instance is deleted once it is stopped", deleteLife},
	{"an address is not given twice", addressTaken},
	{"what does not exist is not found", notFound},
	{"events become hints", hints},
	{"an app that ends by itself is hinted without a user", hintOfExit},
	{"instances are found by their owner", owned},
	{"what listens in an instance is reached from within", forwardReaches},
}

// suite is one test at work.
type suite struct {
	*testing.T
	host Host
	c    *incus.Client
}

// Names used by every test; a test cleans up after itself, and before.
const (
	project = "ct-conformance"
	network = "ctbr0"
	owner   = "ct-owner"
)

func newSuite(t *testing.T, h Host) *suite {
	s := &suite{T: t, host: h, c: incus.New(incus.Options{Dial: h.Dial})}
	s.clean()
	t.Cleanup(s.clean)
	return s
}

// clean removes all that a test may have left.
func (s *suite) clean() {
	s.Helper()
	ctx := context.WithoutCancel(s.Context())
	raw := s.raw().UseProject(project)
	have, err := s.c.Observe(ctx, project)
	if err != nil {
		s.Fatal(err)
	}
	for name := range have.Instances {
		s.must(s.c.Do(ctx, project, plan.StopInstance{Name: name}))
		s.must(s.c.Do(ctx, project, plan.DeleteInstance{Name: name}))
	}
	for _, v := range have.Volumes {
		for _, name := range []string{"data"} {
			err := raw.DeleteStoragePoolVolume(v.Pool, "custom", name)
			if err != nil && v.UsedBy > 0 {
				s.Error(err)
			}
		}
	}
	if have.Images[s.host.Image.Fingerprint].Owner == owner {
		s.must(s.c.Do(ctx, "default", plan.DeleteImage{Fingerprint: s.host.Image.Fingerprint, Owner: owner}))
	}
	s.must(s.c.Do(ctx, project, plan.DeleteNetwork{Name: network}))
	s.must(s.c.Do(ctx, project, plan.DeleteProject{Name: project}))
}

// raw is the bare client, to look behind ours.
func (s *suite) raw() incusapi.InstanceServer {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return s.host.Dial(ctx) }
	srv, err := incusapi.ConnectIncusHTTP(
		&incusapi.ConnectionArgs{SkipGetEvents: true, SkipGetServer: true},
		&http.Client{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true}},
	)
	if err != nil {
		s.Fatal(err)
	}
	return srv
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// do carries out ops that must succeed.
func (s *suite) do(ops ...plan.Op) {
	s.Helper()
	for _, op := range ops {
		s.must(s.c.Do(s.Context(), project, op))
	}
}

// fails carries out an op that must fail with a kind.
func (s *suite) fails(op plan.Op, kind error) {
	s.Helper()
	_ = s.failure(op, kind)
}

// failure is fails for those who read the text.
func (s *suite) failure(op plan.Op, kind error) error {
	s.Helper()
	err := s.c.Do(s.Context(), project, op)
	if !errors.Is(err, kind) {
		s.Errorf("%T: got error %v, want kind %q", op, err, kind)
	}
	return err
}

func (s *suite) observe() plan.Observed {
	s.Helper()
	have, err := s.c.Observe(s.Context(), project)
	s.must(err)
	return have
}

// instance returns an observed instance that must exist.
func (s *suite) instance(name string) plan.ObservedInstance {
	s.Helper()
	i, found := s.observe().Instances[name]
	if !found {
		s.Fatalf("instance %s is not observed", name)
	}
	return i
}

// project makes the project, a bridge and the image: what instances need.
func (s *suite) project() {
	s.Helper()
	s.do(createProject(), createNetwork(), s.pull())
}

func createProject() plan.CreateProject {
	return plan.CreateProject{Name: project, Description: "conformance", Config: map[string]string{
		"features.images": "false", "features.profiles": "true", "features.storage.volumes": "true", plan.KeyOwner: owner,
	}}
}

func createNetwork() plan.CreateNetwork {
	return plan.CreateNetwork{Name: network, Description: "conformance", Config: map[string]string{
		"ipv4.address": "10.211.77.1/24", "ipv4.dhcp": "false", "ipv4.nat": "true", "ipv6.address": "none", "dns.mode": "none", plan.KeyOwner: owner,
	}}
}

func (s *suite) pull() plan.PullImage {
	i := s.host.Image
	return plan.PullImage{Server: i.Server, Alias: i.Alias, Ref: i.Ref, Want: i.Fingerprint}
}

// create describes an instance with an app and a last octet of its address.
func (s *suite) create(name string, app map[string]string, octet string) plan.CreateInstance {
	config := map[string]string{plan.KeyOwner: owner, "user.a": "1"}
	maps.Copy(config, app)
	if s.host.Behave != nil && app["raw.lxc"] == stubborn["raw.lxc"] {
		s.host.Behave(project, name)
	}
	if s.host.Lack != nil && app["raw.lxc"] == missing["raw.lxc"] {
		s.host.Lack(project, name, noProgram)
	}
	if s.host.Echo != nil && app["raw.lxc"] == echoing["raw.lxc"] {
		s.host.Echo(project, name, 7000)
	}
	if s.host.Says != nil && app["raw.lxc"] == talkative["raw.lxc"] {
		s.host.Says(project, name, words+"\n")
	}
	return plan.CreateInstance{
		Name: name, Fingerprint: s.host.Image.Fingerprint, Config: config,
		Devices: map[string]plan.Device{
			"root": {"type": "disk", "path": "/", "pool": s.observe().Server.Pool},
			"eth0": {"type": "nic", "name": "eth0", "network": network, "ipv4.address": "10.211.77." + octet + "/24", "ipv4.gateway": "10.211.77.1", "ipv6.address": "none"},
		},
	}
}

// running makes a project with one instance, "web", that runs.
func (s *suite) running(app map[string]string) {
	s.Helper()
	s.project()
	op := s.create("web", app, "10")
	op.Start = true
	s.do(op)
}

// eventually waits up to ten seconds for something to become true.
func (s *suite) eventually(what string, is func() bool) {
	s.Helper()
	for range 200 {
		if is() {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	s.Fatalf("it never came about that %s", what)
}

package healthd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A guest is the daemon as an instance of the project it looks after, with a certificate for that project alone.
const (
	guestName = "ic-healthd"
	// guestAddress is where the guest finds Incus: the far end of a proxy device, so that Incus may listen on the
	// host's loopback only and the guest needs no network.
	guestAddress = "127.0.0.1:8443"
	// guestServer and guestProject are in the environment of the guest.
	guestServer  = "IC_HEALTHD_SERVER"
	guestProject = "IC_HEALTHD_PROJECT"
	// guestMark is on what belongs to the guest, and on its project while that is the guest's to watch. guestScope keeps
	// what the project's scope was before; a project that had none has none.
	guestMark  = "user.ic-agent.healthd"
	guestScope = "user.ic-agent.healthd.scope"
	// guestState is its state directory, a volume: the key survives the instance's disk, and is in no image or copy
	// of it.
	guestState = "/var/lib/ic-healthd"
	// guestPatience is how long it may take to be at work.
	guestPatience = 60 * time.Second
)

// guest is the work of the verbs up, down and status --project.
type guest struct {
	c       *incus.Client
	project string
	out     io.Writer
	// program is the path of what runs in the guest; empty means this program.
	program string
}

func (g guest) say(format string, args ...any) { _, _ = fmt.Fprintf(g.out, format+"\n", args...) }

// errForeign is the kind of error for what has the guest's name and not its mark.
var errForeign = errors.New("somebody else's")

// there returns the guest's instance.
func (g guest) there(ctx context.Context) (plan.ObservedInstance, bool, error) {
	i, err := g.c.Instance(ctx, g.project, guestName)
	switch {
	case errors.Is(err, incus.ErrNotFound):
		return i, false, nil
	case err != nil:
		return i, false, err
	case i.Config[guestMark] != "true":
		return i, false, fmt.Errorf("instance %s in project %s is %w: it has no %s=true", guestName, g.project, errForeign, guestMark)
	}

	return i, true, nil
}

// up makes the guest, or goes on where an earlier up ended.
func (g guest) up(ctx context.Context) error {
	end, err := g.c.Endpoint(ctx)
	switch {
	case err != nil:
		return err
	case end.Address == "":
		return errors.New(`Incus does not listen for certificates; the loopback is enough: "incus config set core.https_address 127.0.0.1:8443", then again`) //nolint:staticcheck // Incus is a name
	}

	have, err := g.vacant(ctx)
	if err != nil {
		return err
	}

	err = g.make(ctx, end, have)
	if err != nil {
		return err
	}

	err = g.c.Do(ctx, g.project, plan.StartInstance{Name: guestName})
	if err != nil {
		return err
	}

	err = g.trust(ctx)
	if err != nil {
		return err
	}

	err = g.c.Do(ctx, g.project, plan.UpdateProject{Name: g.project, Set: taking(have.Project.Config)})
	if err != nil {
		return err
	}

	err = g.wait(ctx, "it to be at work", func() (bool, error) {
		i, _, err := g.there(ctx)

		return i.Config[health.KeyStatus] == string(health.Healthy), err
	})
	if err == nil {
		g.say("ic-healthd works in project %s; the host's own leaves that project alone", g.project)
	}

	return err
}

// vacant looks at the project, and refuses one in which another has the guest's place.
func (g guest) vacant(ctx context.Context) (plan.Observed, error) {
	have, err := g.c.Observe(ctx, g.project)
	switch {
	case err != nil:
		return have, err
	case have.Project == nil:
		return have, fmt.Errorf("there is no Incus project %s", g.project)
	}

	for name, i := range have.Instances {
		if name != guestName && i.Config[health.KeyDaemon] == "true" {
			return have, fmt.Errorf("instance %s in project %s is a health daemon already (%s=true): two would restart everything twice", name, g.project, health.KeyDaemon)
		}
	}

	v, there := have.Volumes[have.Server.Pool+"/"+guestName]
	if there && v.Config[guestMark] != "true" {
		return have, fmt.Errorf("volume %s in pool %s of project %s is %w: it has no %s=true", guestName, v.Pool, g.project, errForeign, guestMark)
	}

	return have, confined(g.project, have)
}

// confined refuses a project that is restricted too much for the guest, before anything is made.
func confined(project string, have plan.Observed) error {
	config := have.Project.Config
	if config["restricted"] != "true" {
		return nil
	}

	var lacks []string
	if config["restricted.devices.proxy"] != "allow" {
		lacks = append(lacks, "restricted.devices.proxy=allow")
	}

	for _, i := range have.Instances {
		if i.Config["raw.lxc"] != "" && config["restricted.containers.lowlevel"] != "allow" {
			lacks = append(lacks, "restricted.containers.lowlevel=allow") // else Incus refuses whatever is made beside it
			break
		}
	}

	if len(lacks) == 0 {
		return nil
	}

	return fmt.Errorf("project %s is restricted, and leaves no room for it: incus project set %s %s (docs/health.md says what that means)", project, project, strings.Join(lacks, " "))
}

// taking are the keys that make a project the guest's to watch.
func taking(config map[string]string) map[string]string {
	set := map[string]string{guestMark: "true", health.KeyScope: "project"}
	if config[guestMark] != "true" {
		set[guestScope] = config[health.KeyScope]
	}

	return set
}

// make makes the image, the volume and the instance; one that is there gets the image of this version.
func (g guest) make(ctx context.Context, end incus.Endpoint, have plan.Observed) error {
	pool := have.Server.Pool
	old, exists, err := g.there(ctx)
	if err != nil {
		return err
	}

	archive, sum, err := g.image(end.Architecture)
	if err != nil || old.Config["volatile.base_image"] == sum {
		return err
	}

	_, imported := have.Images[sum]
	if !imported {
		g.say("importing an image of %d MB into project %s", len(archive)>>20, g.project)
	}

	err = g.c.ImportImage(ctx, g.project, sum, guestName, archive)
	if err != nil {
		return err
	}

	if exists {
		return g.renew(ctx, sum)
	}

	mark := map[string]string{guestMark: "true"}
	err = g.c.Do(ctx, g.project, plan.CreateVolume{Pool: pool, Name: guestName, Description: "the key of ic-healthd", Config: mark})
	if err != nil && !errors.Is(err, incus.ErrExists) {
		return err
	}

	g.say("making instance %s", guestName)

	return g.c.Do(ctx, g.project, g.instance(end, pool, sum))
}

// image makes the image of the program.
func (g guest) image(architecture string) (archive []byte, sum string, err error) {
	path := g.program
	if path == "" {
		path, err = os.Executable()
		if err != nil {
			return nil, "", fmt.Errorf("find this program: %w", err)
		}
	}

	program, err := os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("read this program: %w", err)
	}

	return guestImage(program, architecture)
}

// renew gives the guest another image, and drops those it had.
func (g guest) renew(ctx context.Context, sum string) error {
	g.say("instance %s gets it", guestName)
	err := g.c.Do(ctx, g.project, plan.StopInstance{Name: guestName, Grace: 5 * time.Second})
	if err == nil {
		err = g.c.Do(ctx, g.project, plan.RebuildInstance{Name: guestName, Fingerprint: sum})
	}

	if err != nil {
		return err
	}

	return g.removeImages(ctx, sum)
}

// instance is how the guest's instance is made.
func (g guest) instance(end incus.Endpoint, pool, image string) plan.CreateInstance {
	return plan.CreateInstance{
		Name: guestName, Description: "health checks and restarts of this project", Fingerprint: image,
		Config: map[string]string{
			guestMark: "true", health.KeyDaemon: "true", health.KeyIgnore: "true", "boot.autostart": "true", "boot.autostart.priority": "1000",
			"environment." + guestServer: end.Fingerprint, "environment." + guestProject: g.project, "limits.memory": "256MiB",
			"limits.processes": "200", "security.guestapi": "false",
		},
		Devices: map[string]plan.Device{
			"root":  {"type": "disk", "path": "/", "pool": pool},
			"state": {"type": "disk", "path": guestState, "pool": pool, "source": guestName},
			"incus": {"type": "proxy", "bind": "instance", "listen": "tcp:" + guestAddress, "connect": "tcp:" + loopbackOf(end.Address)},
		},
	}
}

// loopbackOf is where the host itself reaches an address that Incus listens on.
func loopbackOf(address string) string {
	host, port, found := strings.Cut(address, ":")
	switch {
	case strings.HasPrefix(address, "["):
		i := strings.LastIndex(address, "]")
		host, port = address[:i+1], strings.TrimPrefix(address[i+1:], ":")
		if host == "[::]" {
			host = "127.0.0.1"
		}
	case !found:
		port = ""
	}

	if host == "" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}

	if port == "" {
		port = "8443"
	}

	return host + ":" + port
}

// trust lets the guest's certificate into its project. The guest has made it, and its key stays there.
func (g guest) trust(ctx context.Context) error {
	var certificate string
	err := g.wait(ctx, "its certificate", func() (bool, error) {
		text, err := g.c.ReadFile(ctx, g.project, guestName, guestState+"/"+certificateFile)
		certificate = text

		return err == nil && text != "", nil
	})
	if err != nil {
		return err
	}

	g.say("trusting its certificate for project %s alone", g.project)

	return g.c.Trust(ctx, guestName, trustMark(g.project, fingerprintIn(certificate)), g.project, certificate)
}

// wait asks until done says so.
func (g guest) wait(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}

		select {
		case <-ctx.Done():
			return fmt.Errorf(`waited %s for %s: "incus console --show-log %s --project %s" says more`, guestPatience, what, guestName, g.project)
		case <-tick.C:
		}
	}
}

// status shows what the guest itself says.
func (g guest) status(ctx context.Context, asJSON bool) error {
	i, exists, err := g.there(ctx)
	if err != nil {
		return err
	}

	if !exists {
		return fmt.Errorf("there is no instance %s in project %s: ic-agent healthd up --project %s makes it", guestName, g.project, g.project)
	}

	ours, _, err := g.certificates(ctx)
	if err != nil {
		return err
	}

	argv := []string{"/usr/bin/ic-healthd", "status"}
	if asJSON {
		argv = append(argv, "--json")
	} else {
		g.say("instance %s/%s: %s, %s; certificates trusted: %d", g.project, guestName, i.Status, i.Config[health.KeyStatus], len(ours))
	}

	e, err := g.c.Exec(ctx, g.project, guestName, incus.Command{Argv: argv, Limit: 1 << 20, Start: startBudget, Run: startBudget})
	if err != nil {
		return err
	}

	_, err = g.out.Write(e.Output)
	if err == nil && e.Code != exitOK && e.Code != exitFailed {
		err = fmt.Errorf("it ended with exit code %d", e.Code)
	}

	return err
}

// guestVerb runs one of the verbs about a guest.
func guestVerb(ctx context.Context, o options, verb string, out, errs io.Writer) int {
	g := guest{c: incus.New(incus.Options{Socket: o.incus}), project: o.project, out: out}
	if o.project == "" {
		return failed(errs, exitUsage, errors.New("write --project and the Incus project"))
	}

	var err error
	switch verb {
	case "up":
		err = g.up(ctx)
	case "down":
		err = g.down(ctx)
	default:
		err = g.status(ctx, o.json)
	}

	if err != nil {
		return failed(errs, exitFailed, err)
	}

	return exitOK
}

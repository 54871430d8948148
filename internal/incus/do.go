package incus

import (
	"context"
	"errors"
	"fmt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Do carries out one op in an Incus project and returns when Incus is done with it. Networks are always those
// of the default project. The error says what was being done to which object; see the kinds above.
//
// When ctx ends first, what was started goes on in Incus and the error is an ErrUnknownOutcome.
func (c *Client) Do(ctx context.Context, project string, op plan.Op) error {
	what, err := c.do(ctx, project, op)
	switch {
	case errors.Is(err, ErrNoSpace):
		return fmt.Errorf("%s: %w: make room %s; it is tried again by itself", what, err, room(op))
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// room says where there is none for an op, and how to look.
func room(op plan.Op) string {
	pool := ""
	switch op := op.(type) {
	case plan.CreateVolume:
		pool = op.Pool
	case plan.SeedVolume:
		pool = op.Pool
	case plan.SnapshotVolume:
		pool = op.Pool
	case plan.RestoreVolume:
		pool = op.Pool
	default:
		return "on Incus's disk or in its storage pool (df -h /var/lib/incus, incus storage list)"
	}
	return fmt.Sprintf("in the storage pool %s (incus storage info %s)", pool, pool)
}

func (c *Client) do(ctx context.Context, project string, op plan.Op) (what string, err error) {
	in := " in project " + project
	switch op := op.(type) {
	case plan.CreateProject:
		return "create project " + op.Name, c.createProject(ctx, op)
	case plan.UpdateProject:
		return "update project " + op.Name, c.updateProject(ctx, op)
	case plan.DeleteProject:
		return "delete project " + op.Name, c.deleteProject(ctx, op)
	case plan.CreateNetwork:
		return "create network " + op.Name, c.createNetwork(ctx, op)
	case plan.UpdateNetwork:
		return "update network " + op.Name, c.updateNetwork(ctx, op)
	case plan.DeleteNetwork:
		return "delete network " + op.Name, c.deleteNetwork(ctx, op)
	case plan.CreateVolume:
		return "create volume " + op.Name + " in pool " + op.Pool + in, c.createVolume(ctx, project, op)
	case plan.SeedVolume:
		return "copy the image's files into volume " + op.Name + " in pool " + op.Pool + in, c.seedVolume(ctx, project, op)
	case plan.UpdateVolume:
		return "update volume " + op.Name + " in pool " + op.Pool + in, c.updateVolume(ctx, project, op)
	case plan.SnapshotVolume:
		return "take the snapshot " + op.Name + " of volume " + op.Volume + " in pool " + op.Pool + in, c.snapshotVolume(ctx, project, op)
	case plan.DeleteSnapshot:
		return "delete the snapshot " + op.Name + " of volume " + op.Volume + " in pool " + op.Pool + in, c.deleteSnapshot(ctx, project, op)
	case plan.RestoreVolume:
		return "restore the snapshot " + op.Name + " of volume " + op.Volume + " in pool " + op.Pool + in, c.restoreVolume(ctx, project, op)
	case plan.DeleteVolume:
		return "delete volume " + op.Name + " in pool " + op.Pool + in, c.deleteVolume(ctx, project, op)
	case plan.PullImage:
		return "pull image " + op.Ref, c.pullImage(ctx, project, op)
	case plan.DeleteImage:
		return "delete image " + op.Fingerprint[:min(12, len(op.Fingerprint))], c.deleteImage(ctx, project, op)
	case plan.CreateInstance:
		return "create instance " + op.Name + in, c.createInstance(ctx, project, op)
	case plan.UpdateInstance:
		return "update instance " + op.Name + in, c.explained(ctx, project, op.Name, c.updateInstance(ctx, project, op))
	case plan.RebuildInstance:
		return "rebuild instance " + op.Name + in, c.rebuildInstance(ctx, project, op)
	case plan.PushFile:
		return "push " + op.File.Target + " into instance " + op.Instance + in, c.pushFile(ctx, project, op)
	case plan.MakeTargets:
		return "make the mount points of instance " + op.Instance + in, c.makeTargets(ctx, project, op)
	case plan.SignalInstance:
		return "send " + op.Signal + " to instance " + op.Name + in, c.signalInstance(ctx, project, op)
	case plan.StartInstance:
		return "start instance " + op.Name + in, c.startInstance(ctx, project, op)
	case plan.RunHooks:
		return "run post_start in instance " + op.Instance + in, c.runHooks(ctx, project, op.Instance)
	case plan.StopInstance:
		return "stop instance " + op.Name + in, c.stopInstance(ctx, project, op)
	case plan.DeleteInstance:
		return "delete instance " + op.Name + in, c.deleteInstance(ctx, project, op)
	case plan.PlaceFiles, plan.MakeHostDir: // the host's, not Incus's: see package files
	}
	return fmt.Sprintf("do %T", op), kinded{errors.New("this agent does not know how"), []error{ErrUnsupported}}
}

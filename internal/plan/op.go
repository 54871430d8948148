package plan

import "time"

// Op is one call to Incus, or one change of what the host mounts into its instances. The set is closed: a type switch over it is complete.
//
//sumtype:decl
type Op interface{ op() }

type (
	// CreateProject makes an Incus project.
	CreateProject struct {
		Name, Description string
		Config            map[string]string
	}
	// UpdateProject sets project keys; an empty value removes the key.
	UpdateProject struct {
		Name string
		Set  map[string]string
	}
	// DeleteProject deletes an empty project.
	DeleteProject struct{ Name string }

	// CreateNetwork makes a bridge in Incus's default project.
	CreateNetwork struct {
		Name, Description string
		Config            map[string]string
	}
	// UpdateNetwork sets network keys; an empty value removes the key.
	UpdateNetwork struct {
		Name string
		Set  map[string]string
	}
	// DeleteNetwork deletes a network nobody uses.
	DeleteNetwork struct{ Name string }

	// CreateVolume makes a custom filesystem volume.
	CreateVolume struct {
		Pool, Name, Description string
		Config                  map[string]string
	}

	// SeedVolume copies into a fresh volume what the first of the instances has at its path, with owner and mode, as
	// Docker does. What is in the volume stays as it is.
	SeedVolume struct {
		Pool, Name string
		From       []Seed
		// Required says that a directory that none of them has is an error.
		Required bool
	}
	// UpdateVolume sets volume keys; an empty value removes the key.
	UpdateVolume struct {
		Pool, Name string
		Set        map[string]string
	}
	// SnapshotVolume takes a snapshot of a volume; one of its name is a success.
	SnapshotVolume struct{ Snapshot }
	// DeleteSnapshot deletes a snapshot that we took.
	DeleteSnapshot struct{ Snapshot }
	// RestoreVolume makes a volume that nothing running uses hold what its snapshot does.
	RestoreVolume struct{ Snapshot }
	// DeleteVolume deletes a custom volume with the data in it. Only Destroy plans it.
	DeleteVolume struct{ Pool, Name string }

	// PullImage has Incus fetch an image from its registry, once. Want is the fingerprint the manifest
	// promises; another result is an error.
	PullImage struct {
		Server, Alias, Ref, Want string
		// Owner, Config and Origin ("ref@digest") are noted on the image, so that it is known later
		// whose it is and what; empty ones are not.
		Owner, Config, Origin string
		// Marked asks for the mark of Image.Marked.
		Marked bool
		// Size is Image.Size.
		Size int64
	}

	// DeleteImage deletes an image nobody needs, if it carries the owner's mark. No plan has this op: images
	// belong to all stacks.
	DeleteImage struct{ Fingerprint, Owner string }

	// CreateInstance makes a container from a local image and, with Start, starts it.
	CreateInstance struct {
		Name, Description string
		Fingerprint       string
		Config            map[string]string
		Devices           map[string]Device
		Start             bool
	}
	// UpdateInstance sets config keys (an empty value removes the key) and devices (a nil Device removes
	// it), leaving all others as they are. With Stopped it is refused for one that runs, whoever has started it: it
	// would carry what it does not run with.
	UpdateInstance struct {
		Name    string
		Config  map[string]string
		Devices map[string]Device
		Stopped bool
	}
	// RebuildInstance replaces the root filesystem of a stopped instance.
	RebuildInstance struct{ Name, Fingerprint string }
	// PushFile writes a file into an instance; missing directories are made, owned by root, mode 0755.
	PushFile struct {
		Instance string
		File     File
	}
	// PlaceFiles makes the files the host keeps for an instance be these, and nothing else; Hash is what
	// ObservedInstance.Placed says from then on.
	PlaceFiles struct {
		Instance string
		Files    []File
		Hash     string
	}
	// MakeHostDir makes a directory of the host that is mounted into an instance, with its parents.
	MakeHostDir struct{ Path string }
	// MakeTargets makes the paths that are missing in a stopped instance: empty directories and files of root.
	MakeTargets struct {
		Instance string
		Targets  []Target
	}
	// SignalInstance sends a signal to the first process of a running instance.
	SignalInstance struct{ Name, Signal string }
	// StartInstance starts a stopped instance; one that runs already is a success.
	StartInstance struct{ Name string }
	// StopInstance sends the stop signal, waits Grace, then kills; one that is stopped already is a
	// success. Drain passes before, with the instance's names withdrawn. Mark are keys that are set on it first; where
	// it is just being stopped by somebody else, as soon as it is stopped.
	StopInstance struct {
		Name         string
		Grace, Drain time.Duration
		Mark         map[string]string
		// Before are run in it first (pre_stop); their failure holds nothing up.
		Before []Command
	}
	// RunHooks runs the post_start hooks that the instance carries, once for each of its starts.
	RunHooks struct{ Instance string }
	// DeleteInstance deletes a stopped instance; its volumes stay. With Rootless it is refused for one that has
	// snapshots.
	DeleteInstance struct {
		Name     string
		Rootless bool
	}
)

func (CreateProject) op()   {}
func (UpdateProject) op()   {}
func (DeleteProject) op()   {}
func (CreateNetwork) op()   {}
func (UpdateNetwork) op()   {}
func (DeleteNetwork) op()   {}
func (CreateVolume) op()    {}
func (SeedVolume) op()      {}
func (UpdateVolume) op()    {}
func (SnapshotVolume) op()  {}
func (DeleteSnapshot) op()  {}
func (RestoreVolume) op()   {}
func (DeleteVolume) op()    {}
func (PullImage) op()       {}
func (DeleteImage) op()     {}
func (CreateInstance) op()  {}
func (UpdateInstance) op()  {}
func (RebuildInstance) op() {}
func (PushFile) op()        {}
func (PlaceFiles) op()      {}
func (MakeHostDir) op()     {}
func (MakeTargets) op()     {}
func (SignalInstance) op()  {}
func (StartInstance) op()   {}
func (StopInstance) op()    {}
func (RunHooks) op()        {}
func (DeleteInstance) op()  {}

package plan

import (
	"net/netip"
	"time"
)

// Desired is a Project with every Incus key and device spelled out; what Render makes and Diff compares.
type Desired struct {
	// Owner is the agent's id, written as KeyOwner on everything made.
	Owner string
	// Stack, Name and Incus are the Project's.
	Stack, Name, Incus string
	// Source is the stack's main file.
	Source string
	// Drift is "report" where what was changed by hand is left so, and said.
	Drift string
	// Config holds the Incus project's keys.
	Config map[string]string
	// Networks and Volumes are sorted by name, Instances by service and index.
	Networks  []DesiredNetwork
	Volumes   []DesiredVolume
	Instances []DesiredInstance
	// Blocked is what cannot be had, and why.
	Blocked []Blocked
	// Shut says which window a running instance that is wanted no more waits for; empty when for none. Hurried are the
	// services that need not wait.
	Shut    string
	Hurried map[string]bool
	// Warnings are the Project's.
	Warnings []Warning
}

// DesiredNetwork is a network as Incus is to have it.
type DesiredNetwork struct {
	// Name is Incus's name, Key the compose key.
	Name, Key string
	External  bool
	Config    map[string]string
	At        Place
}

// DesiredVolume is a custom volume as Incus is to have it.
type DesiredVolume struct {
	// Pool and Name are Incus's, Key is the compose key; empty for anonymous volumes.
	Pool, Name, Key string
	External        bool
	// Seeds are where the files of a fresh one come from, the first one first.
	Seeds []Seed
	// Copy is the image, and Path the directory in it, that a volume for mounts of that image is filled from; the zero
	// Image means that it is none.
	Copy   Image
	Path   string
	Config map[string]string
	At     Place
}

// DesiredInstance is an instance as Incus is to have it.
type DesiredInstance struct {
	Name, Service string
	// Image is what its root filesystem is made from.
	Image Image
	// Config and Devices are complete but for the root disk's pool, which stays what it was.
	Config  map[string]string
	Devices map[string]Device
	// Late devices are added once the instance runs, because each delays a start by a second.
	Late map[string]Device
	// Files are pushed before the first start, and again when they change.
	Files []File
	// FilesHash is a hash over Files and the image; empty when there are none.
	FilesHash string
	// Placed are the configs and secrets, with owner and mode: files of the host, mounted read-only.
	Placed []File
	// PlacedHash is a hash over Placed; empty when there are none.
	PlacedHash string
	// OnChange and ChangeSignal are what is done when PlacedHash changes, as in ServiceExtension.
	OnChange, ChangeSignal string
	// HostDirs are the directories it mounts that the host lacks and that are to be made.
	HostDirs []string
	// Targets are the paths in it that are needed before a mount with mapped users can be made there.
	Targets []Target
	// Grace is the time between the stop signal and the kill.
	Grace time.Duration
	// Needs are the services it waits for.
	Needs []Dependency
	// Networks are the Incus networks it is on.
	Networks []string
	// Volumes are the custom volumes it mounts, "pool/name".
	Volumes []string
	// Listens are the host ports it publishes, alone or with other replicas.
	Listens []Listen
	// Forwards are those of them that the agent carries.
	Forwards []Forward
	// Drain is the time between the withdrawal of its names and its stop signal, where it is stopped.
	Drain time.Duration
	// Snapshot is taken of its volumes when it is changed, once it is stopped; without a name none is.
	Snapshot Snapshot
	// Lasting says that its program is not to end (restart: always or unless-stopped).
	Lasting bool
	// Leave says that it is not touched in this pass, whatever it is like.
	Leave bool
	At    Place
	// Origins are the Service's, and those of the devices made of its mounts and ports.
	Origins map[string]Place
}

// Origin tells where a config key was written, or a device (DeviceOrigin).
func (d DesiredInstance) Origin(key string) Place {
	at, known := d.Origins[key]
	if !known {
		return d.At
	}

	return at
}

// Seed is a path of an instance's root filesystem that a volume is mounted over.
type Seed struct{ Instance, Path string }

// Target is a path in an instance that something is mounted at.
type Target struct {
	Path string
	// Dir says that a directory is mounted there, else a file.
	Dir bool
}

// HostPath is what the host has at a path.
type HostPath string

// The kinds of HostPath. The empty one is not known, because the agent may not look.
const (
	HostMissing HostPath = "missing"
	HostDir     HostPath = "directory"
	// HostTree is a directory with something mounted below it.
	HostTree HostPath = "tree"
	HostFile HostPath = "file"
)

// Forward is a port on the host that leads to an instance.
type Forward struct {
	Listen

	To netip.AddrPort
	// Header begins each connection with a PROXY protocol line.
	Header bool
}

// Listen is a port on the host.
type Listen struct {
	Protocol string
	IP       netip.Addr
	Port     uint16
	At       Place
}

// String returns "tcp 0.0.0.0:80".
func (l Listen) String() string {
	return l.Protocol + " " + netip.AddrPortFrom(l.IP, l.Port).String()
}

// Blocked is an object that cannot be brought to what is wanted, and why. What runs of it keeps running.
type Blocked struct {
	On ID
	// Reason says what is wrong and what to do.
	Reason string
	// At is the place in the file; the zero Place when there is none.
	At Place
	// Service is the service an instance is one of, whose dependents wait; empty for other objects.
	Service string
	// Conflict says that something that is not ours stands in the way.
	Conflict bool
	// Waits says that nothing is wrong: a dependency is on its way, and its event brings the next plan.
	Waits bool
	// Type is the condition's, where it is another one than Blocked, Conflict or Waiting.
	Type string
	// Temporary blocks resolve themselves (a registry that is down): they are retried.
	Temporary bool
}

// The types of conditions about updates (Blocked.Type).
const (
	TypeGoingBack = "GoingBack"
	// TypeRemovalHeld is a removal that waits to be confirmed.
	TypeRemovalHeld = "RemovalHeld"
	TypeRolledBack  = "RolledBack"
	TypePaused      = "Paused"
	// TypeScheduled is a change that waits for the stack's window.
	TypeScheduled = "Scheduled"
	// TypeUpdateFailed: instances failed, and the file says to go on.
	TypeUpdateFailed = "UpdateFailed"
)

// Foreign is what matters about a network that somebody else looks after.
type Foreign struct {
	// Unmanaged networks are bridges of the host that Incus does not manage.
	Unmanaged bool
	// IPv6 says that there may be IPv6 addresses to wait for.
	IPv6 bool
}

// Input is what Render needs besides the project.
type Input struct {
	// Owner is the agent's id.
	Owner string
	// Images are the resolved images by the reference as written; Missing says why one is not there.
	Images  map[string]Image
	Missing map[string]Blocked
	// Segments are the managed networks' subnets by Incus name, those of IPv6 by V6 of it.
	Segments map[string]Segment
	// Foreign are the networks of others, by Incus name.
	Foreign map[string]Foreign
	// Addresses are the addresses by Incus network (V6 of it for IPv6) and instance.
	Addresses map[string]map[string]netip.Addr
	// Ports are the host ports chosen for those that name none, by PortKey.
	Ports map[string]uint16
	// Blocked are the objects that the allocation refused.
	Blocked []Blocked
	// Pool is the storage pool of everything that names none.
	Pool string
	// Beside are the networks of others whose clients ask our DNS server at ServiceAddress, by Incus name.
	Beside map[string]bool
	// Homes are the pools that hold our volumes already, by the volume's name.
	Homes map[string][]string
	// Domain is the DNS zone, "incus".
	Domain string
	// Paths tells what the host has at the sources of bind mounts.
	Paths map[string]HostPath
	// Shares are the directories where the host has mounted what volumes ask for; a missing one is not mounted.
	Shares map[Share]string
	// Lacks are the subpaths of mounts that their volumes do not have, as "volume/subpath" in Incus's names.
	Lacks map[string]bool
	// FilesDir is where the host keeps the files that are mounted into instances; empty means none can be.
	FilesDir string
}

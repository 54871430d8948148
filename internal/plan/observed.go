package plan

import (
	"net/netip"
	"time"
)

// Device is an Incus device: its "type" and the other keys.
type Device map[string]string

// Observed is what Incus has of one Incus project, read in one go without decisions.
type Observed struct {
	// Server describes the host.
	Server Server
	// Project is nil when the Incus project does not exist.
	Project *ObservedProject
	// Networks holds every network of Incus's default project by name: ours, those of other stacks, and
	// foreign ones, managed or not.
	Networks map[string]ObservedNetwork
	// Volumes holds the custom volumes of the project by "pool/name".
	Volumes map[string]ObservedVolume
	// Images holds the local images by fingerprint.
	Images map[string]ObservedImage
	// Instances holds every instance of the project by name.
	Instances map[string]ObservedInstance
}

// Server is what matters about the Incus server.
type Server struct {
	// Version is environment.server_version, "7.0.2".
	Version string
	// Pool is the storage pool used when nothing names one: the root pool of the default profile, else
	// the first pool.
	Pool string
	// Restart tells the instance keys that take effect only at the next start, by name or by prefix
	// ending in "." or "*"; from /1.0/metadata/configuration.
	Restart map[string]bool
}

// ObservedProject is an Incus project.
type ObservedProject struct {
	Name        string
	Config      map[string]string
	Description string
}

// ObservedNetwork is an Incus network.
type ObservedNetwork struct {
	Type        string
	Managed     bool
	Config      map[string]string
	Description string
	// UsedBy counts the instances and profiles on it.
	UsedBy int
	// Status is Incus's word for how far it got with making it, where that is known.
	Status string
}

// What Incus says of networks that it did not finish.
const (
	NetworkPending = "Pending"
	NetworkErrored = "Errored"
)

// ObservedVolume is a custom volume.
type ObservedVolume struct {
	Pool   string
	Config map[string]string
	// UsedBy counts the instances and profiles that mount it.
	UsedBy int
}

// ObservedImage is a local image.
type ObservedImage struct {
	// Cached images were pulled implicitly by Incus, which may delete them.
	Cached bool
	// Owner, Config and Origin are what was noted when it was pulled (PullImage); empty for images that
	// somebody else brought.
	Owner, Config, Origin string
	// Touched is when it was brought, or last used for an instance.
	Touched time.Time
	// Size is in bytes.
	Size int64
}

// Status is an instance's state.
type Status string

// The states of api.Instance.Status that matter here; others are shown as they come.
const (
	Running Status = "Running"
	Stopped Status = "Stopped"
	Frozen  Status = "Frozen"
	Error   Status = "Error"
)

// ObservedInstance is an instance.
type ObservedInstance struct {
	Status Status
	// Type is "container" or "virtual-machine".
	Type string
	// Config and Devices are the instance's own, without profiles.
	Config  map[string]string
	Devices map[string]Device
	// Fingerprint is volatile.base_image.
	Fingerprint string
	// Created is when it was made; LastUsed is its last start, before Created (or zero) when it never
	// ran.
	Created, LastUsed time.Time
	// Addresses are the static IPv4 addresses of its NICs by device name, Addresses6 the IPv6 ones.
	Addresses, Addresses6 map[string]netip.Addr
	// Placed is the PlacedHash of the files that the host keeps for it; empty when there are none.
	Placed string
}

package plan

import (
	"fmt"
	"net/netip"
	"time"
)

// Project is one stack as its files describe it, after interpolation, merging and defaults, before anything
// is known about images and addresses. The parse child prints it as JSON; nil and empty slices differ where
// a comment says so.
type Project struct {
	// Stack is the directory entry's name without its ending ("blog" for blog.yaml).
	Stack string
	// Name is the compose project name (top-level "name:", else the stack's name), compose-spec section
	// "name".
	Name string
	// Incus is the Incus project's name, the slug of Name.
	Incus string
	// Source is the path of the stack's main file.
	Source string
	// Hash is the hex sha256 over the names and contents of all files the project was read from.
	Hash string
	// Config holds Incus project keys (top-level "x-incus"), verbatim.
	Config map[string]string
	// Networks, Volumes and Services are sorted by Name.
	Networks []Network
	Volumes  []Volume
	Services []Service
	// Warnings lists every key that is not, or not fully, honoured.
	Warnings []Warning
	// Files are the absolute paths of everything the project was read from, sorted: the stack's own files
	// and all that they refer to (env_file, configs, include, extends).
	Files []string
	// SecretFiles are those of Files that secrets were read from: what is kept for later must not hold them.
	SecretFiles []string
	// RemoveGrace is how long the services keep running after the file is gone; 0 means 60 s.
	RemoveGrace time.Duration
	// Extension is the rest of x-ic-agent.
	Extension
}

// Warning is something a user should know about a file, with the place it came from.
type Warning struct {
	// File is the path the key stands in; empty when not known.
	File string
	// Line counts from 1; 0 when not known.
	Line int
	// Key is the dotted path of the key, "services.web.logging".
	Key string
	// Text says what is done instead and what the user can do.
	Text string
}

// Network is a compose network (compose-spec "networks").
type Network struct {
	// Name is the key in the compose file; "default" for the implicit one.
	Name string
	// Incus is the name of the Incus network: "<project>-<name>" up to 13 characters, else "ic-" and ten
	// characters of base32(sha256), or the user's own name.
	Incus string
	// External networks exist already: they are used, never made, changed or deleted.
	External bool
	// Internal networks have no way out: no default route, no NAT.
	Internal bool
	// IPv6 gives it IPv6 as well (enable_ipv6), NoIPv4 takes IPv4 away (enable_ipv4: false).
	IPv6, NoIPv4 bool
	// Subnet is the IPv4 subnet of ipam.config, Subnet6 the IPv6 one; the zero Prefix lets the agent choose one.
	Subnet, Subnet6 netip.Prefix
	// Gateway and Gateway6 are those of ipam.config; the zero Addr means the first address of the subnet.
	Gateway, Gateway6 netip.Addr
	// Range and Range6 restrict the addresses handed out (ipam.config ip_range); the zero Prefix means the subnet.
	Range, Range6 netip.Prefix
	// Reserved are addresses never handed out (ipam.config aux_addresses), sorted.
	Reserved []netip.Addr
	// MTU is driver_opts com.docker.network.driver.mtu; 0 leaves it to Incus.
	MTU int
	// Config holds Incus network keys (x-incus), verbatim, the last word.
	Config map[string]string
	// Labels become user.label.* keys.
	Labels map[string]string
	// At names the place in the file, for errors.
	At Place
}

// Volume is a named volume (compose-spec "volumes").
type Volume struct {
	// Name is the key in the compose file.
	Name string
	// Incus is the custom volume's name, "vol-<slug>", or the user's own name.
	Incus string
	// External volumes must exist; they are never made and never deleted.
	External bool
	// Pool is the storage pool; empty means the agent's default pool.
	Pool string
	// Size is the volume's size in bytes; 0 means no limit.
	Size int64
	// Config holds Incus volume keys (x-incus), verbatim, the last word.
	Config map[string]string
	// Labels become user.label.* keys.
	Labels map[string]string
	// At names the place in the file, for errors.
	At Place
}

// Place is where in the user's files something was written.
type Place struct {
	// File is a path; empty when not known.
	File string
	// Line counts from 1; 0 when not known.
	Line int
}

// Service is a compose service (compose-spec "services").
type Service struct {
	// Name is the key in the compose file.
	Name string
	// At is the line of the service's key.
	At Place
	// Image is the reference as written ("nginx:alpine"), and what to do about it.
	Image ImageRef
	// Replicas is the number of instances; 0 is allowed and means none.
	Replicas int
	// ContainerName overrides the instance's name "<service>-<n>"; only with one replica.
	ContainerName string
	// Process is what runs and how it is stopped.
	Process Process
	// Environment is set over the image's.
	Environment map[string]string
	// Hostname is the name inside the instance; empty means the instance's name.
	Hostname string
	// Domainname is the domain of Hostname; empty means none but the stack's.
	Domainname string
	// ExtraHosts are names that only this service knows, sorted by name.
	ExtraHosts []ExtraHost
	// Resolver is what it wants of name resolution.
	Resolver Resolver
	// Sandbox is what it may do less or more than a container of Incus.
	Sandbox Sandbox
	// HostDevices are devices of the host, sorted by Target.
	HostDevices []HostDevice
	// RootSize limits the root filesystem, in bytes; 0 means no limit of its own.
	RootSize int64
	// Networks are the attachments in NIC order: eth0 first.
	Networks []Attachment
	// HostNetwork puts it on the network of the host itself (network_mode: host); Networks and Ports are empty then.
	HostNetwork bool
	// Mounts are volumes, binds and tmpfs, sorted by Target.
	Mounts []Mount
	// Ports are the published ports, in file order.
	Ports []Port
	// Expose are the ports that are offered to other services, beside the published ones.
	Expose []Exposed
	// Files are the compose "configs" and "secrets", sorted by Target.
	Files []File
	// DependsOn is sorted by Service.
	DependsOn []Dependency
	// Restart is the compose restart policy: "", "no", "always", "unless-stopped", "on-failure",
	// "on-failure:N". Empty means that the file says nothing.
	Restart string
	// NoHealthcheck keeps the image's HEALTHCHECK from being inherited (healthcheck.disable, or test NONE).
	NoHealthcheck bool
	// Config holds further Incus instance keys the translation produced (limits.*, user.label.*,
	// user.healthcheck.*, linux.sysctl.*), before x-incus.
	Config map[string]string
	// Devices are raw devices of x-incus-compose.devices; a name also generated by us is overridden.
	Devices map[string]Device
	// XIncus holds the service's x-incus map: verbatim, the last word.
	XIncus map[string]string
	// Origins tells where the keys of Config and XIncus, and Devices (by DeviceOrigin), were written, for errors
	// about them; what is missing was written at At.
	Origins map[string]Place
	// PostStart are run one after the other once an instance has started, PreStop before its stop signal.
	PostStart, PreStop []Hook
	// Rollout says how a running service is changed, Rollback how it goes back when that fails.
	Rollout, Rollback RolloutPolicy
	// ServiceExtension is the service's x-ic-agent.
	ServiceExtension
}

// DeviceOrigin is a device's key among Origins.
func DeviceOrigin(device string) string { return "device " + device }

// ImageRef is a reference and the policy for pulling it.
type ImageRef struct {
	// Ref is the reference as written.
	Ref string
	// Pull is "missing" (also when empty), "always", "never" or "build" (compose-spec "pull_policy").
	Pull string
	// Every is how often the registry is asked for a newer image, which is then taken; 0 means never
	// (pull_policy daily, weekly, every_<duration>).
	Every time.Duration
	// Build makes the image, under the name Ref, where Pull does not say to fetch it; nil means that it comes
	// from a registry.
	Build *Build
	// Platform is "os/arch[/variant]"; empty means the host's.
	Platform string
	// At is the line of the image key.
	At Place
}

// Process is the program of a service.
type Process struct {
	// Entrypoint replaces the image's ENTRYPOINT and drops its CMD; nil leaves both, empty clears.
	Entrypoint []string
	// Command replaces the image's CMD; nil leaves it, empty clears.
	Command []string
	// Cwd is the working directory; empty means the image's.
	Cwd string
	// User is "uid", "uid:gid", "name" or "name:group"; empty means the image's.
	User string
	// Init keeps an init process as PID 1 that forwards signals and reaps zombies.
	Init bool
	// StopSignal is a signal's name ("SIGQUIT") or number; empty means the image's, else SIGTERM.
	StopSignal string
	// StopGrace is the time between the stop signal and the kill; 0 means 10 s.
	StopGrace time.Duration
}

// Attachment is a service on a network.
type Attachment struct {
	// Network is the compose key of the network.
	Network string
	// Aliases are further names of the service on this network, sorted.
	Aliases []string
	// IPv4 and IPv6 are fixed addresses; the zero Addr lets the agent choose.
	IPv4, IPv6 netip.Addr
	// MAC is a fixed hardware address; empty lets Incus choose.
	MAC string
	// Interface is the NIC's name inside; empty means eth0, eth1 …
	Interface string
	// Config holds NIC device keys (x-incus), verbatim, the last word.
	Config map[string]string
}

// MountType tells what stands behind a mount.
type MountType string

// The mount types of the compose specification that are supported.
const (
	MountVolume MountType = "volume"
	MountBind   MountType = "bind"
	MountTmpfs  MountType = "tmpfs"
	// MountImage is what an image holds, read-only.
	MountImage MountType = "image"
)

// Mount is a directory or file that is mounted into a service.
type Mount struct {
	Type MountType
	// Source is a volume's compose key, an absolute host path or an image's reference; empty for tmpfs and anonymous volumes.
	Source string
	// Target is the absolute path in the instance.
	Target string
	// ReadOnly mounts it read-only.
	ReadOnly bool
	// Size of a tmpfs in bytes; 0 means Incus's default.
	Size int64
	// Mode of a tmpfs, in octal digits ("1777"); empty means Incus's default.
	Mode string
	// UID and GID own a tmpfs; 0 is root.
	UID, GID uint32
	// Create makes a missing host directory (bind.create_host_path).
	Create bool
	// NoCopy keeps the image's files from being copied into a fresh volume.
	NoCopy bool
	// Subpath is a directory inside the volume or image.
	Subpath string
	// NoShift leaves the owner of a bind mount unmapped (x-incus security.shifted: "false").
	NoShift bool
	// Propagation is what becomes of mounts made below a bind mount later (bind.propagation); empty is Incus's own.
	Propagation string
	// Recursive says whether the mounts below a bind mount's source are part of it (bind.recursive).
	Recursive Recursion
	// Share is what a bind mount's Source is to be found by; the zero value where Source is known.
	Share Share
	// Config holds volume keys (x-incus) for the volume made for this mount, verbatim.
	Config map[string]string
	// Labels become user.label.* keys of the volume made for this mount.
	Labels map[string]string
	// At is the place in the file, for errors.
	At Place
}

// Recursion says whether what is mounted below a directory comes along.
type Recursion string

// The words for Recursion. The empty one means that the file says nothing.
const (
	RecursiveOn  Recursion = "on"
	RecursiveOff Recursion = "off"
)

// Share is a network file system that the host has mounted (a volume's driver_opts).
type Share struct {
	// Type is "nfs", "nfs4" or "cifs".
	Type string
	// Device is "server:/export" or "//server/share", without a slash at its end.
	Device string
	// Options are those for mount(8), without secrets.
	Options string
}

// Port is a published port, one number a piece, ranges already expanded.
type Port struct {
	// HostIP restricts the listener; the zero Addr means every address of both families, 0.0.0.0 and :: every
	// address of one.
	HostIP netip.Addr
	// Published is the first port on the host, PublishedEnd the last (equal unless the file gives a range, of
	// which each replica has one; replicas share a single port). 0 lets the agent choose one and keep it.
	Published, PublishedEnd uint16
	// Target is the port in the instance.
	Target uint16
	// Protocol is "tcp" or "udp".
	Protocol string
	// Header begins each TCP connection with a PROXY protocol line.
	Header bool
	// At is the place in the file, for errors.
	At Place
}

// Exposed is a port that is offered to other services: they find it by an SRV record.
type Exposed struct {
	Port uint16
	// Protocol is "tcp" or "udp".
	Protocol string
}

// IPs are the addresses a port is listened at.
func (p Port) IPs() []netip.Addr {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}

	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// PortKey names a published port whose number the agent chooses: "web 80/tcp".
func PortKey(service string, p Port) string {
	key := fmt.Sprintf("%s %d/%s", service, p.Target, p.Protocol)
	if p.HostIP.IsValid() {
		key += " " + p.HostIP.String()
	}

	return key
}

// File is a config or secret, or the launch file: a file an instance has from before its start.
type File struct {
	// Name is the compose key of the config or secret; "environment" for the launch file.
	Name string
	// Target is the absolute path in the instance.
	Target string
	// Content is the whole file; nil for a secret.
	Content []byte
	// Confidential files are secrets: their content is in Secret and is never written down.
	Confidential bool
	Secret       Secret
	// Seal is a hash of a secret's content under the host's key (Project.Seal); empty for other files.
	Seal string
	// Directory makes a directory instead, where there is nothing yet, and leaves what is there alone.
	Directory bool
	// UID and GID own it; -1 means the process's own user and group.
	UID, GID int64
	// Mode holds the permission bits; 0 means 0444.
	Mode uint32
	// At is the place in the file, for errors.
	At Place
}

// Dependency says that a service waits for another one.
type Dependency struct {
	Service string
	// Condition is "service_started", "service_healthy" or "service_completed_successfully".
	Condition string
	// Optional dependencies do not hold the service when they are missing (required: false).
	Optional bool
	// Restart restarts the service when the dependency is updated.
	Restart bool
}

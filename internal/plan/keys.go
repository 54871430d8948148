package plan

import (
	"iter"
	"slices"
	"strings"
)

// ownPrefix begins every key of our own bookkeeping.
const ownPrefix = "user.ic-agent."

// The keys this agent writes on every object it makes, beside those shared with lxc/incus-compose.
const (
	// KeyOwner carries the agent's owner id: only objects that have it, with our id, are ever touched.
	KeyOwner = "user.ic-agent.owner"
	// KeyStack is the stack's name, KeyService the service's compose key, KeyIndex the replica's number.
	KeyStack   = "user.ic-agent.stack"
	KeyService = "user.ic-agent.service"
	KeyIndex   = "user.ic-agent.index"
	// KeyName is the compose key of a network or volume.
	KeyName = "user.ic-agent.name"
	// KeyImage is "ref@digest" of the image the root filesystem was made from.
	KeyImage = "user.ic-agent.image"
	// KeyConfig is, on an image, the digest of its config.
	KeyConfig = "user.ic-agent.config"
	// KeyBoot is a hash of everything that takes effect at start only; a difference means a restart.
	KeyBoot = "user.ic-agent.boot"
	// KeySpec is a hash of all that was set when it was last set.
	KeySpec = "user.ic-agent.spec"
	// KeyFiles is a hash of the files pushed into the root filesystem.
	KeyFiles = "user.ic-agent.files"
	// KeySeed is "pending" on a volume that has still to get the image's files, and no instance has been started with.
	KeySeed = "user.ic-agent.seed"
	// KeyPlaced is a hash of the configs and secrets that the app has been told of: those of its last start, or of
	// the last signal.
	KeyPlaced = "user.ic-agent.placed"
	// KeyKeys and KeyDevices name, separated by spaces, the config keys and devices we set, so that those
	// no longer wanted are removed and those set by hand are left alone.
	KeyKeys    = "user.ic-agent.keys"
	KeyDevices = "user.ic-agent.devices"
	// KeyHeld says, on an instance that went back to the version before, which newer one failed: the files' hash
	// and the image's digest.
	KeyHeld = "user.ic-agent.held"
	// KeyChanging marks an instance that is stopped to be changed: the health daemon is not to restart it meanwhile.
	KeyChanging = "user.ic-agent.changing"
	// KeySurge marks the candidate of an update, which is deleted when it is wanted no more.
	KeySurge = "user.ic-agent.surge"
	// KeyAliases are the further DNS names of the instance's service: "net=alias,alias net2=alias".
	KeyAliases = "user.ic-agent.aliases"
	// KeyNeeds names, separated by spaces, the services of the stack that this one waits for to be healthy: while one
	// of them is being healed, the health daemon does not restart this one.
	KeyNeeds = "user.ic-agent.needs-healthy"

	// KeyParked marks an instance that is wanted no more, stopped and kept for a while: "running" or "stopped", as it
	// was before.
	KeyParked = "user.ic-agent.parked"
	// KeyAdopted marks what somebody else made and we took over as it was.
	KeyAdopted = "user.ic-agent.adopted"
	// KeyPostStart and KeyPreStop hold the hooks of a service, a list of Commands as JSON; KeyHooked a HookMark.
	KeyPostStart = "user.ic-agent.post-start"
	KeyPreStop   = "user.ic-agent.pre-stop"
	KeyHooked    = "user.ic-agent.hooked"
	// KeyProtect marks an instance whose removal has to be confirmed.
	KeyProtect = "user.ic-agent.protect"

	// KeyHealthStatus is written by the health daemon and by nobody else.
	KeyHealthStatus = "user.healthcheck.status"
)

// Keys of lxc/incus-compose that we write too, so that its CLI finds what we run.
const (
	KeyManaged        = "user.incus-compose.managed"
	KeyImageAlias     = "user.image_alias"
	KeyComposeProject = "user.label.incus-compose.project"
	KeyComposeService = "user.label.incus-compose.service"
)

// Keys that parking sets: neither Incus nor the health daemon is to start what is parked.
const (
	keyHealthStopped = "user.healthcheck.stopped"
	keyAutostart     = "boot.autostart"
)

// parkedRunning is the value of KeyParked of what starts again when it is wanted again.
const parkedRunning = "running"

// sometimes are the keys of our own that an instance has or has not; KeyKeys does not name them.
var sometimes = []string{KeyParked, KeyProtect, KeyPostStart, KeyPreStop, KeyAdopted, KeyChanging, KeyHeld, KeySurge, KeyLauncher}

// bookkeeping are the keys, beside those of sometimes, that we keep our books in.
var bookkeeping = []string{
	KeyOwner, KeyStack, KeyService, KeyIndex, KeyName, KeyImage, KeyConfig, KeyBoot, KeySpec, KeyFiles, KeySeed, KeyPlaced, KeyKeys, KeyDevices,
	KeyAliases, KeyNeeds, KeyHooked, KeyHealthStatus, KeyHealthDetail, keyHealthStopped,
}

// Bookkeeping reports whether a key is one that only the agent, the health daemon or Incus write: whoever sets the owner,
// or the sign of a candidate, by a file loses what the file is about.
func Bookkeeping(key string) bool {
	return slices.Contains(bookkeeping, key) || slices.Contains(sometimes, key) || strings.HasPrefix(key, "volatile.")
}

// setBefore lists the keys that we have set on an object, so that those no longer wanted go.
func setBefore(have map[string]string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range strings.FieldsSeq(have[KeyKeys]) {
			if !yield(k) {
				return
			}
		}

		for _, k := range sometimes {
			if !yield(k) {
				return
			}
		}

		if have[KeyParked] != "" || have[KeyChanging] != "" {
			yield(keyHealthStopped)
		}
	}
}

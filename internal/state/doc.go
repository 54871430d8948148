// Package state keeps the ledger: what the agent remembers of every stack between passes and over restarts,
// in one bbolt file. It owns that file and nothing else, and decides nothing about stacks.
//
// The file is a cache of intent. Whatever may not be lost lives in Incus or in the user's files, so a damaged
// file is renamed away and begun anew, and the agent starts every time. bbolt survives crashes and power cuts
// but has no checksums on its data pages, so every value carries its own and the keys of a bucket are sealed:
// a value that changed, went missing or fell back to an older state on the disk is dropped and named, never
// used. What a newer version wrote and this one does not know is dropped, too, after a copy of the whole file was made:
// after a downgrade everything that was known is in "state.db.newer-<time>".
//
//	state.db
//	├── meta
//	│   └── schema          "1", in decimal; a newer one is not opened
//	├── stacks
//	│   ├── #seal           the names of the buckets below
//	│   └── <stack>         only for stacks of which something is remembered
//	│       ├── #seal       the checksum of each value below
//	│       ├── project     the last good project
//	│       ├── generation  how many projects were accepted
//	│       ├── images      what registries said, by reference
//	│       ├── addresses   addresses handed out, by network and instance
//	│       ├── started     boot hash of the last start, by instance
//	│       ├── stops       stops asked for by hand, by instance
//	│       ├── intents     steps begun, by object
//	│       ├── conditions  what is wrong
//	│       ├── removed     when the file was found gone
//	│       ├── parked      for how long instances have been parked
//	│       ├── counted     when that was last counted
//	│       ├── confirmed   protected services that may go
//	│       ├── orphan      whether the stack was found without a file and a ledger
//	│       └── applied     when the last plan with steps ended well
//	└── subnets
//	    ├── #seal           the checksum of each value below
//	    └── <network>       the subnet reserved for an Incus network
//
// A value is one byte of codec version, four bytes of CRC-32C (big endian) over the value's path, the version
// and the payload, and the payload as JSON. Zero values are not stored.
package state

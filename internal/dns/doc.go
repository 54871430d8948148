// Package dns is the name server of the networks the agent manages.
//
// Its heart is pure: Build turns networks and instances into an immutable Zone, and Zone.Answer says what a
// client gets for a question, without socket, clock or lock. Around it a Server listens on the gateway
// address of every managed bridge, answers our names from the zone behind an atomic pointer, and hands
// everything else to the host's own resolvers.
//
// What a client sees is decided by the address its question comes from and the address it arrives at, never
// by anything the client says: a name exists for those who share a network with it, and for the host.
//
// Foreign answers are kept in a bounded cache, apart for each network, and given when they are old if nobody has
// newer ones. A question asked again is answered from packed bytes without allocating. Clients are limited one by
// one, so that nobody can take what others need.
//
// Resolved is the other way round: it tells systemd-resolved, over D-Bus, where the host finds our names.
//
// The package never reads Incus and never changes a network; the wire format comes from miekg/dns, which no
// other package knows.
package dns

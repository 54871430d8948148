// Package healthd is ic-healthd put together: the Runner of package health, Incus as it sees it, the probes, what
// is kept over a restart, the status socket, what systemd is told, and the verbs of the command line.
//
// It owns /var/lib/ic-healthd and /run/ic-healthd. Of Incus it changes the two keys of package health and the
// state of instances whose policy asks for it, nothing else.
package healthd

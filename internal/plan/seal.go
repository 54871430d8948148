package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// seal adds the bookkeeping: what we set, and two hashes over it. They are of the JSON that every release so far has
// hashed: another one would start again what ended by itself.
func (r *renderer) seal(d *DesiredInstance) {
	keys := slices.AppendSeq(make([]string, 0, len(d.Config)), maps.Keys(d.Config))
	slices.Sort(keys)
	names := slices.Sorted(maps.Keys(d.Devices))
	d.Config[KeyBoot] = r.bootHash(*d, keys, names)
	d.Config[KeySpec] = r.specHash(*d, keys, names)
	d.Config[KeyKeys] = joinKeys(keys)
	if len(d.Late) > 0 {
		names = slices.AppendSeq(names, maps.Keys(d.Late))
		slices.Sort(names)
	}

	d.Config[KeyDevices] = strings.Join(names, " ")
	if d.FilesHash != "" {
		d.Config[KeyFiles] = d.FilesHash
	}

	if d.PlacedHash != "" {
		d.Config[KeyPlaced] = d.PlacedHash
	}
}

// bootHash covers the keys and devices that a running instance does not see change. Which those are is
// Incus's affair and may change with its version, so a different hash alone restarts nothing: Diff asks
// whether such a value differs too.
func (r *renderer) bootHash(d DesiredInstance, keys, names []string) string {
	b := append(r.json[:0], '[', '{')
	for _, k := range keys {
		if bootKey(k, nil) {
			b = appendMember(b, k, d.Config[k])
		}
	}

	b = append(b, '}', ',', '{')
	for _, n := range names {
		dev := d.Devices[n]
		switch {
		case !bootDevice(nil, dev):
		case n == rootDevice:
			b = appendDevice(b, n, Device{"readonly": dev["readonly"]})
		default:
			b = appendDevice(b, n, dev)
		}
	}

	b = appendString(append(b, '}', ','), d.FilesHash)
	b = appendString(append(b, ','), d.Image.Fingerprint)
	if d.PlacedHash != "" {
		b = appendString(append(b, ','), d.PlacedHash)
	}

	r.json = append(b, ']')

	return hashOf(r.json, 16)
}

// specHash covers all that is set on an instance: where it is what was last applied, a difference was made by hand.
func (r *renderer) specHash(d DesiredInstance, keys, names []string) string {
	b := append(r.json[:0], '[', '{')
	for _, k := range keys {
		if !strings.HasPrefix(k, ownPrefix) {
			b = appendMember(b, k, d.Config[k])
		}
	}

	b = append(b, '}', ',', '{')
	for _, n := range names {
		b = appendDevice(b, n, d.Devices[n])
	}

	b = appendString(append(b, '}', ','), d.Image.Fingerprint)
	r.json = append(b, ']')

	return hashOf(r.json, 8)
}

func hashOf(b []byte, length int) string {
	sum := sha256.Sum256(b)

	return hex.EncodeToString(sum[:length])
}

// appendDevice appends a device as a member of a JSON object, its keys sorted.
func appendDevice(b []byte, name string, dev Device) []byte {
	b = append(appendName(b, name), '{')
	var room [16]string
	keys := room[:0]
	for k := range dev {
		keys = append(keys, k)
	}

	slices.Sort(keys)
	for _, k := range keys {
		b = appendMember(b, k, dev[k])
	}

	return append(b, '}')
}

func appendMember(b []byte, name, value string) []byte {
	return appendString(appendName(b, name), value)
}

// appendName begins a member of the JSON object that is open at the end of b.
func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}

	return append(appendString(b, name), ':')
}

// appendString appends a string as encoding/json writes it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings always marshal
			}

			return append(b, quoted...)
		}
	}

	return append(append(append(b, '"'), s...), '"')
}

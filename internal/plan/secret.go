package plan

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Secret is the content of a secret. It cannot be written down by accident: it marshals to null, prints as
// "(secret)", and comes out by Reveal only. The zero Secret is one whose content is not known, as after the ledger
// was read.
type Secret struct{ content []byte }

// NewSecret returns the secret with that content; nil and empty content is a known, empty one.
func NewSecret(content []byte) Secret {
	if content == nil {
		content = []byte{}
	}

	return Secret{content}
}

// Reveal returns the content; nil when it is not known.
func (s Secret) Reveal() []byte { return s.content }

// Known reports whether the content is known.
func (s Secret) Known() bool { return s.content != nil }

// Equal reports whether both have the same content, known or not.
func (s Secret) Equal(o Secret) bool {
	return s.Known() == o.Known() && bytes.Equal(s.content, o.content)
}

// MarshalJSON returns null.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON leaves the content unknown.
func (s *Secret) UnmarshalJSON([]byte) error {
	s.content = nil

	return nil
}

// Format prints "(secret)", whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret)")) }

// String returns "(secret)".
func (s Secret) String() string { return "(secret)" }

// Seal makes a project fit to be remembered: each secret gets its Seal, by which a changed one is known, and
// Hash, which covers the files that secrets were read from, is replaced by one that cannot be guessed at. key is the
// host's own; a plain hash of a short password would give it away.
func (p *Project) Seal(key []byte) {
	for _, f := range p.secrets() {
		f.Seal = seal(key, "secret", f.Secret.content)
	}

	if p.Hash != "" {
		p.Hash = seal(key, "project", []byte(p.Hash))
	}
}

// Unlock fills in the contents of secrets that p, an earlier generation read back from where it was kept, does not
// know: those of now. A service and target that now has no secret stays without. What p shares with other projects
// is left alone.
func (p *Project) Unlock(now Project) {
	p.Services = slices.Clone(p.Services)
	for i := range p.Services {
		p.Services[i].Files = slices.Clone(p.Services[i].Files)
	}

	known := map[string]*File{}
	for service, f := range now.secrets() {
		known[service+"\x00"+f.Target] = f
	}

	for service, f := range p.secrets() {
		have := known[service+"\x00"+f.Target]
		if have != nil && !f.Secret.Known() {
			f.Secret, f.Seal = have.Secret, have.Seal
		}
	}
}

// Secrets lists the secrets of all services in a stable order, to carry their contents past the encoding.
func (p *Project) Secrets() []*File {
	var out []*File
	for _, f := range p.secrets() {
		out = append(out, f)
	}

	return out
}

// secrets goes through the secrets with the name of their service.
func (p *Project) secrets() func(yield func(service string, f *File) bool) {
	return func(yield func(string, *File) bool) {
		for i := range p.Services {
			s := &p.Services[i]
			for j := range s.Files {
				if s.Files[j].Confidential && !yield(s.Name, &s.Files[j]) {
					return
				}
			}
		}
	}
}

func seal(key []byte, what string, content []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(what + "\x00"))
	mac.Write(content)

	return hex.EncodeToString(mac.Sum(nil))
}

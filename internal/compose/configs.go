package compose

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// fileKind is what configs and secrets differ in.
type fileKind struct {
	// list is the key, in a service and at the top; one is a single one's name.
	list, one string
	// dir is where a target without a path lies.
	dir string
	// confidential contents are never written down.
	confidential bool
}

var (
	configKind = fileKind{list: "configs", one: "config", dir: "/"}
	secretKind = fileKind{list: "secrets", one: "secret", dir: plan.SecretsDir, confidential: true}
)

// configs turns compose configs into files.
func (s *service) configs() {
	for _, c := range s.in.Configs {
		obj, defined := s.t.project.Configs[c.Source]
		s.fileRef(configKind, types.FileReferenceConfig(c), types.FileObjectConfig(obj), defined)
	}
}

// secrets turns compose secrets into files that are never written down.
func (s *service) secrets() {
	for _, c := range s.in.Secrets {
		obj, defined := s.t.project.Secrets[c.Source]
		s.fileRef(secretKind, types.FileReferenceConfig(c), types.FileObjectConfig(obj), defined)
	}
}

func (s *service) fileRef(kind fileKind, c types.FileReferenceConfig, obj types.FileObjectConfig, defined bool) {
	key := s.key + "." + kind.list
	at := s.t.index.item(key, func(v any) bool {
		m := asMap(v)
		return asString(v) == c.Source || m != nil && asString(m["source"]) == c.Source
	})
	if !defined {
		s.t.refuseAt(at, key, fmt.Sprintf("the %s %q is not defined", kind.one, c.Source), "add it under the top-level "+kind.list)
		return
	}

	f := plan.File{Name: c.Source, Target: kind.target(c), Confidential: kind.confidential, At: at}
	if f.Target == "/" || f.Target == plan.SecretsDir || strings.HasSuffix(c.Target, "/") {
		s.t.refuseAt(at, key, fmt.Sprintf("the target %q is not a file", c.Target), "write the absolute path of a file")
	}

	f.UID = s.owner(at, key, c.UID)
	f.GID = s.owner(at, key, c.GID)
	if c.Mode != nil {
		f.Mode = uint32(*c.Mode)
		if *c.Mode < 1 || *c.Mode > 0o7777 {
			s.t.refuseAt(at, key, fmt.Sprintf("%o is not a mode", int64(*c.Mode)), `write octal digits, "0440"`)
		}
	}

	content, ok := s.t.fileContent(kind, c.Source, obj)
	if !ok {
		return
	}

	if kind.confidential {
		f.Secret = plan.NewSecret(content)
	} else {
		f.Content = content
	}

	s.out.Files = append(s.out.Files, f)
}

// target is where a config or secret is in the service.
func (k fileKind) target(c types.FileReferenceConfig) string {
	t := c.Target
	if t == "" {
		t = c.Source
	}

	if !strings.HasPrefix(t, "/") {
		t = k.dir + "/" + t
	}

	return path.Clean(t)
}

// owner parses a numeric id; none means the process's own.
func (s *service) owner(at plan.Place, key, id string) int64 {
	if id == "" {
		return -1
	}

	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		s.t.refuseAt(at, key, fmt.Sprintf("%q is not a numeric id", id), "write the number of the user or group")
		return -1
	}

	return int64(n)
}

// fileContent reads a config or secret from where it is defined.
func (t *translation) fileContent(kind fileKind, name string, c types.FileObjectConfig) ([]byte, bool) {
	key := kind.list + "." + name
	switch {
	case bool(c.External):
		return t.externalContent(kind, key, c.Name)
	case c.Driver != "" || len(c.DriverOpts) > 0:
		t.refuse(key+".driver", kind.one+" drivers do not exist here", "use file:, environment: or external:")
		return nil, false
	case c.File != "":
		b, err := t.files.referred(c.File)
		if err != nil {
			hint := fileHint(err)
			if errors.Is(err, errOutside) && len(t.in.Vaults) > 0 {
				hint += fmt.Sprintf(", or put it into %s and write external: true", t.in.Vaults[0])
			}

			t.refuse(key+".file", fmt.Sprintf("%s %v", c.File, err), hint)
			return nil, false
		}

		if kind.confidential {
			t.secretFiles[c.File] = true
		}

		return b, true
	case c.Environment != "":
		v, ok := t.project.Environment[c.Environment]
		if !ok {
			t.refuse(key+".environment", fmt.Sprintf("the variable %s is not set", c.Environment), "set it in .env beside the file")
			return nil, false
		}

		for _, path := range t.in.Env {
			t.secretFiles[filepath.Clean(path)] = t.secretFiles[filepath.Clean(path)] || kind.confidential
		}

		return []byte(v), true
	}

	return []byte(c.Content), true
}

// Vaults are the directories of external secrets and configs on this host: that of the administrator, and the systemd
// credentials of a unit; an empty one is none.
func Vaults(credentials string) []string {
	const admin = "/etc/ic-agent/secrets"
	if credentials == "" {
		return []string{admin}
	}

	return []string{admin, credentials}
}

// externalContent reads what an administrator keeps outside the stack's directory: a file of that name in one of the
// directories of Input.Vaults, the first that has it.
func (t *translation) externalContent(kind fileKind, key, name string) ([]byte, bool) {
	if name == "" || name != path.Base(name) || strings.HasPrefix(name, ".") {
		t.refuse(key+".name", fmt.Sprintf("%q is not the name of a file", name), "use letters, digits, hyphens, dots and underscores")
		return nil, false
	}

	for _, vault := range t.in.Vaults {
		file := filepath.Join(vault, name)
		b, err := t.files.given(file)
		if err == nil {
			t.secretFiles[file] = t.secretFiles[file] || kind.confidential
			return b, true
		}

		if !t.files.missed[file] {
			t.refuse(key, fmt.Sprintf("%s %v", file, err), fileHint(err))
			return nil, false
		}
	}

	hint := "no directory for it is set up"
	if len(t.in.Vaults) > 0 {
		hint = fmt.Sprintf("put it into %s (root:ic-agent, mode 0640), or give ic-agent.service a systemd credential of that name", filepath.Join(t.in.Vaults[0], name))
	}

	t.refuse(key, fmt.Sprintf("there is no %s %q on this host", kind.one, name), hint)

	return nil, false
}

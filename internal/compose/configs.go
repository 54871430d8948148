package compose

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// configs turns compose configs into files.
func (s *service) configs() {
	for _, c := range s.in.Configs {
		at := s.t.index.item(s.key+".configs", func(v any) bool {
			m := asMap(v)
			return asString(v) == c.Source || m != nil && asString(m["source"]) == c.Source
		})
		obj, ok := s.t.project.Configs[c.Source]
		if !ok {
			s.t.refuseAt(at, s.key+".configs", fmt.Sprintf("the config %q is not defined", c.Source), "add it under the top-level configs")
			continue
		}

		s.config(at, types.FileReferenceConfig(c), obj)
	}
}

func (s *service) config(at plan.Place, c types.FileReferenceConfig, obj types.ConfigObjConfig) {
	key := s.key + ".configs"
	f := plan.File{Target: c.Target, UID: -1, GID: -1, At: at}
	if f.Target == "" {
		f.Target = "/" + c.Source
	}

	if !strings.HasPrefix(f.Target, "/") {
		f.Target = "/" + f.Target
	}

	f.Target = path.Clean(f.Target)
	if f.Target == "/" || strings.HasSuffix(c.Target, "/") {
		s.t.refuseAt(at, key, fmt.Sprintf("the target %q is not a file", c.Target), "write the absolute path of a file")
	}

	f.UID = s.owner(at, c.UID)
	f.GID = s.owner(at, c.GID)
	if c.Mode != nil {
		f.Mode = uint32(*c.Mode)
		if *c.Mode < 1 || *c.Mode > 0o7777 {
			s.t.refuseAt(at, key, fmt.Sprintf("%o is not a mode", int64(*c.Mode)), `write octal digits, "0440"`)
		}
	}

	content, ok := s.t.configContent(c.Source, obj)
	if !ok {
		return
	}

	f.Content = content
	s.out.Files = append(s.out.Files, f)
}

// owner parses a numeric id; none means the process's own.
func (s *service) owner(at plan.Place, id string) int64 {
	if id == "" {
		return -1
	}

	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		s.t.refuseAt(at, s.key+".configs", fmt.Sprintf("%q is not a numeric id", id), "write the number of the user or group")
		return -1
	}

	return int64(n)
}

// configContent reads a config from where it is defined.
func (t *translation) configContent(name string, c types.ConfigObjConfig) ([]byte, bool) {
	key := "configs." + name
	switch {
	case bool(c.External):
		t.refuse(key+".external", "configs kept elsewhere are not supported yet", "use file:, content: or environment:")
	case c.File != "":
		b, err := t.files.referred(c.File)
		if err != nil {
			t.refuse(key+".file", fmt.Sprintf("%s %v", c.File, err), fileHint(err))
			return nil, false
		}

		return b, true
	case c.Environment != "":
		v, ok := t.project.Environment[c.Environment]
		if !ok {
			t.refuse(key+".environment", fmt.Sprintf("the variable %s is not set", c.Environment), "set it in .env beside the file")
			return nil, false
		}

		return []byte(v), true
	default:
		return []byte(c.Content), true
	}

	return nil, false
}

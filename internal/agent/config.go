package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/incus-compose/ic-agent/internal/compose"
)

// Settings are what /etc/ic-agent/agent.toml may say. Every key is optional.
type Settings struct {
	// Directories hold the stacks, highest precedence first; empty means /run/incus-compose.d,
	// /etc/incus-compose.d and /usr/lib/incus-compose.d.
	Directories []string `toml:"directories"`
	// Owner is the id our objects carry; empty derives it from the machine id. Set it when a disk moves to
	// another machine.
	Owner string `toml:"owner"`
	// LogLevel is "debug", "info", "warn" or "error"; empty means info.
	LogLevel string `toml:"log_level"`
	// Incus is about the server.
	Incus struct {
		// Socket is the path of its socket; empty finds it.
		Socket string `toml:"socket"`
	} `toml:"incus"`
	// Network is about the addresses handed out.
	Network struct {
		// Pool is the range that networks get their /24 from; empty means 10.201.0.0/16.
		Pool string `toml:"pool"`
	} `toml:"network"`
	// DNS is about the embedded server.
	DNS DNSSettings `toml:"dns"`
	// Policy is about what stacks may ask of the host.
	Policy compose.Policy `toml:"policy"`
	// Registry is about images.
	Registry struct {
		// AuthFile is a docker-style config.json; empty means the systemd credential "registry-auth" and
		// /etc/ic-agent/auth.json.
		AuthFile string `toml:"auth_file"`
		// Mirrors are asked before a registry, by its host.
		Mirrors map[string][]string `toml:"mirrors"`
		// Insecure are the registries that may speak plain http or show any certificate.
		Insecure []string `toml:"insecure"`
		// Remotes are servers of Incus images, by the word before the colon of an image.
		Remotes map[string]string `toml:"remotes"`
		// KeepUnused is for how long an image that no stack needs any more is kept; empty means 24h.
		KeepUnused string `toml:"keep_unused"`
	} `toml:"registry"`
}

// defaultKeepUnused leaves a day for going back to what ran before.
const defaultKeepUnused = 24 * time.Hour

// defaultPool is in 10.0.0.0/8, away from the ranges that routers, Docker, libvirt and Incus hand out by
// default.
const defaultPool = "10.201.0.0/16"

// ReadSettings reads agent.toml. A file that does not exist is an empty one; an unknown key is an error, so that
// a misspelt one is not taken for a default.
func ReadSettings(path string) (Settings, error) {
	var s Settings
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}

	if err != nil {
		return s, fmt.Errorf("read settings: %w", err)
	}

	meta, err := toml.Decode(string(b), &s)
	if err != nil {
		perr, ok := errors.AsType[toml.ParseError](err)
		if ok {
			return s, fmt.Errorf("%s:%d: %s", path, perr.Position.Line, perr.Message)
		}

		return s, fmt.Errorf("%s: %w", path, err)
	}

	var unknown []string
	for _, k := range meta.Undecoded() {
		unknown = append(unknown, k.String())
	}

	if len(unknown) > 0 {
		return s, fmt.Errorf("%s: unknown key %s: see agent.toml(5)", path, strings.Join(unknown, ", "))
	}

	_, err = s.pool()
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}

	err = s.Policy.Valid()
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}

	_, err = s.DNS.read()
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}

	_, err = s.keepUnused()
	if err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}

	return s, nil
}

func (s Settings) pool() (netip.Prefix, error) {
	text := s.Network.Pool
	if text == "" {
		text = defaultPool
	}

	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() || p.Bits() > 24 {
		return p, fmt.Errorf("network.pool: %q is not an IPv4 range of at least /24, such as %s", text, defaultPool)
	}

	return p.Masked(), nil
}

// authFiles are the files with logins, by precedence. A file of the settings stands alone.
func (s Settings) authFiles() []string {
	if s.Registry.AuthFile != "" {
		return []string{s.Registry.AuthFile}
	}

	var files []string
	credentials := os.Getenv("CREDENTIALS_DIRECTORY") // systemd.exec(5), LoadCredential=
	if credentials != "" {
		files = append(files, filepath.Join(credentials, "registry-auth"))
	}

	return append(files, "/etc/ic-agent/auth.json")
}

// buildAuth is the file with logins that builders read; they do not see the agent's credentials.
func (s Settings) buildAuth() string {
	files := s.authFiles()

	return files[len(files)-1]
}

func (s Settings) keepUnused() (time.Duration, error) {
	if s.Registry.KeepUnused == "" {
		return defaultKeepUnused, nil
	}

	d, err := time.ParseDuration(s.Registry.KeepUnused)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("registry.keep_unused: %q is not a duration, such as 24h", s.Registry.KeepUnused)
	}

	return d, nil
}

func (s Settings) directories() []string {
	if len(s.Directories) == 0 {
		return []string{"/run/incus-compose.d", "/etc/incus-compose.d", "/usr/lib/incus-compose.d"}
	}

	return s.Directories
}

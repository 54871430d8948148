package incus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	incusapi "github.com/lxc/incus/v6/client"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// floor is the oldest Incus that is served: the first with static addresses for OCI containers.
var floor = [3]int{7, 0, 1}

// extensions are the API extensions without which nothing works.
var extensions = []string{"instance_oci", "oci_network_config"}

// atEvent are prefixes of keys whose documentation says "no live update" although Incus reads them when the
// event happens: a restart would change nothing.
var atEvent = []string{"boot.", "snapshots.", "cluster.", "migration."}

// facts is what is known of the server until the connection is lost or its version changes.
type facts struct {
	server plan.Server
	pools  []string
}

// Server describes the host: version, default pool and the keys that need a restart. It is read once per
// connection and version. An Incus below 7.0.1, or one without OCI containers, is ErrUnsupported.
func (c *Client) Server(ctx context.Context) (plan.Server, error) {
	f, err := c.look(ctx)
	if err != nil {
		return plan.Server{}, fmt.Errorf("read the Incus server: %w", err)
	}
	return f.server, nil
}

// look reads the version, and the rest when it is not known for this version.
func (c *Client) look(ctx context.Context) (facts, error) {
	srv, err := recall(ctx, c, "", "/1.0", nil, object[serverAnswer])
	if err != nil {
		return facts{}, err
	}
	err = supported(srv)
	if err != nil {
		return facts{}, err
	}
	c.mu.Lock()
	known := c.facts
	c.mu.Unlock()
	if known != nil && known.server.Version == srv.Environment.ServerVersion {
		return *known, nil
	}
	f := facts{server: plan.Server{Version: srv.Environment.ServerVersion}}
	f.server.Restart, err = c.restartKeys(ctx)
	if err != nil {
		return facts{}, err
	}
	f.server.Pool, f.pools, err = c.poolNames(ctx)
	if err != nil {
		return facts{}, err
	}
	if f.server.Pool != "" { // without one the host is not set up yet: ask again
		c.mu.Lock()
		c.facts = &f
		c.mu.Unlock()
	}
	return f, nil
}

func supported(srv serverAnswer) error {
	version := srv.Environment.ServerVersion
	missing := slices.DeleteFunc(slices.Clone(extensions), func(e string) bool {
		return slices.Contains(srv.APIExtensions, e)
	})
	switch {
	case srv.Auth != "trusted":
		return kinded{errors.New("this user is not trusted by Incus: add it to the group incus-admin"), []error{ErrForbidden}}
	case older(version, floor):
		return kinded{fmt.Errorf("this host runs Incus %s; 7.0.1 or newer is needed", version), []error{ErrUnsupported}}
	case len(missing) > 0:
		return kinded{fmt.Errorf("this Incus (%s) lacks the API extension %s", version, strings.Join(missing, " and ")), []error{ErrUnsupported}}
	}
	return nil
}

// older compares a version like "7.0.2" or "7.3" with a floor; what cannot be read counts as new.
func older(version string, than [3]int) bool {
	parts := strings.SplitN(version, ".", 3)
	for i, want := range than {
		if i >= len(parts) {
			return want > 0
		}
		n, err := strconv.Atoi(strings.TrimRight(parts[i], "-+~abcdefghijklmnopqrstuvwxyz"))
		if err != nil || n > want {
			return false
		}
		if n < want {
			return true
		}
	}
	return false
}

// metadata is the part of /1.0/metadata/configuration that says what is live.
type metadata struct {
	Configs struct {
		Instance map[string]struct {
			Keys []map[string]struct {
				LiveUpdate string `json:"liveupdate"`
			} `json:"keys"`
		} `json:"instance"`
	} `json:"configs"`
}

// restartKeys tells for each documented instance key whether it takes effect at the next start only.
func (c *Client) restartKeys(ctx context.Context) (map[string]bool, error) {
	var meta metadata
	err := c.get(ctx, "/1.0/metadata/configuration", nil, &meta)
	if err != nil {
		return nil, err
	}
	return restart(meta), nil
}

func restart(meta metadata) map[string]bool {
	keys := map[string]bool{"limits.kernel.*": true} // rlimits: documented elsewhere, set at start
	for group, g := range meta.Configs.Instance {
		if group == "volatile" {
			continue
		}
		for _, entry := range g.Keys {
			for key, k := range entry {
				live := strings.HasPrefix(k.LiveUpdate, "yes")
				keys[key] = !live && !slices.ContainsFunc(atEvent, func(p string) bool { return strings.HasPrefix(key, p) })
			}
		}
	}
	keys["security.guestapi"] = false // documented as "no", but applied live
	return keys
}

// poolNames returns the pool of the default profile's root disk, else the first pool, and all pools.
func (c *Client) poolNames(ctx context.Context) (root string, all []string, err error) {
	err = c.read(ctx, "default", func(s incusapi.InstanceServer) error {
		all, err = s.GetStoragePoolNames()
		if err != nil {
			return err
		}
		profile, _, err := s.GetProfile("default")
		if err != nil {
			return err
		}
		for _, dev := range profile.Devices {
			if dev["type"] == "disk" && dev["path"] == "/" {
				root = dev["pool"]
			}
		}
		return nil
	})
	slices.Sort(all)
	if root == "" && len(all) > 0 {
		root = all[0]
	}
	return root, all, err
}

package incustest

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/lxc/incus/v6/shared/api"
)

// keysJSON holds the documented keys of a real Incus 7.0.2 by group, and for instance keys whether a change is
// live, cut down from its /1.0/metadata/configuration.
//
//go:embed keys.json
var keysJSON []byte

// keys are the documented keys: scope → group → key → liveupdate.
var keys = sync.OnceValue(func() map[string]map[string]map[string]string {
	var all map[string]map[string]map[string]string
	err := json.Unmarshal(keysJSON, &all)
	if err != nil {
		panic(err)
	}
	return all
})

// extensions are those that matter to us; a real server has hundreds.
var extensions = []string{
	"etag", "patch", "network", "storage", "projects", "instances", "api_filtering", "instance_create_start", "operation_wait",
	"instances_rebuild", "event_lifecycle_name_and_project", "projects_force_delete", "storage_initial_owner", "instance_oci",
	"instance_oci_entrypoint", "oci_network_config", "file_storage_volume", "dependent", "instance_port_forward",
}

func (s *Server) getServer(*http.Request) reply {
	exts := slices.DeleteFunc(slices.Clone(extensions), func(e string) bool { return slices.Contains(s.opt.Without, e) })
	return ok(api.Server{
		ServerUntrusted: api.ServerUntrusted{
			ServerPut:     api.ServerPut{Config: map[string]string{"core.https_address": s.opt.Listens}},
			APIExtensions: exts, APIStatus: "stable", APIVersion: "1.0", Auth: "trusted", AuthMethods: []string{"tls"},
		},
		AuthUserName: s.opt.User, AuthUserMethod: "unix",
		Environment: api.ServerEnvironment{
			Server: "incus", ServerName: "incustest", ServerVersion: s.opt.Version, Project: "default", Storage: "dir", Architectures: []string{"x86_64"},
			CertificateFingerprint: strings.Repeat("5e", 32),
		},
	})
}

func (s *Server) getMetadata(*http.Request) reply {
	type entry map[string]map[string]string
	configs := map[string]map[string]map[string][]entry{}
	for scope, groups := range keys() {
		configs[scope] = map[string]map[string][]entry{}
		for group, ks := range groups {
			list := []entry{}
			for k, live := range ks {
				e := entry{k: {"type": "string"}}
				if live != "" {
					e[k]["liveupdate"] = live
				}
				list = append(list, e)
			}
			configs[scope][group] = map[string][]entry{"keys": list}
		}
	}
	return ok(map[string]any{"configs": configs})
}

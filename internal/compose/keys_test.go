package compose

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
)

// verdict follows a pattern of the compose specification as the walk over a user's file would: honoured,
// warned of with a sentence of its own, or neither.
func verdict(pattern string) string {
	h := honouredKeys()
	var at []string
	for part := range strings.SplitSeq(pattern, ".") {
		at = append(at, part)
		if h == nil {
			return "honoured"
		}

		next, ok := h.below(part, part == "[]")
		h = next
		if ok || part == "[]" {
			continue
		}

		_, ok = reason(strings.Join(at, "."))
		if ok {
			return "warned"
		}

		return "silent"
	}

	return "honoured" // or the way to keys that are
}

// TestEveryKeyOfTheSpecificationHasAnAnswer fails when compose-go learns a key that no row translates and no
// sentence warns of.
func TestEveryKeyOfTheSpecificationHasAnAnswer(t *testing.T) {
	seen := map[string]int{}
	for _, p := range schema.AttributePaths() {
		v := verdict(string(p))
		seen[v]++
		if v == "silent" {
			t.Errorf("%s is neither honoured nor explained: add a row, or a sentence to unsupported", p)
		}
	}

	if seen["honoured"] < 100 || seen["warned"] < 100 {
		t.Errorf("%v: that cannot be the compose specification", seen)
	}
}

func TestEveryFieldOfAServiceHasAnAnswer(t *testing.T) {
	for _, key := range yamlKeys(reflect.TypeFor[types.ServiceConfig]()) {
		if key != "name" && verdict("services.*."+key) == "silent" {
			t.Errorf("services.*.%s is neither honoured nor explained: add a row, or a sentence to unsupported", key)
		}
	}
}

// yamlKeys are the keys of a struct's fields, inlined ones too.
func yamlKeys(typ reflect.Type) []string {
	var keys []string
	for field := range typ.Fields() {
		tag := field.Tag.Get("yaml")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case name == "" && strings.Contains(options, "inline"):
			keys = append(keys, yamlKeys(field.Type)...)
		case name != "-" && !strings.HasPrefix(name, "#"):
			keys = append(keys, name)
		}
	}

	return keys
}

func TestNoSentenceIsLeftOver(t *testing.T) {
	known := []string{"attach", "dockerfile", "log_driver", "log_opt", "net", "volume_driver", "deploy"}
	for _, p := range schema.AttributePaths() {
		known = append(known, "/"+string(p), strings.TrimPrefix(string(p), "services.*."))
	}

	for key := range unsupported {
		if !slices.Contains(known, key) {
			t.Errorf("unsupported explains %q, which the specification does not have", key)
		}
	}

	for _, r := range serviceRows {
		if !strings.HasPrefix(r.key, "x-") && !slices.Contains(known, r.key) {
			t.Errorf("there is a row for %q, which the specification does not have", r.key)
		}
	}
}

// sample holds a valid value for each key of a service that has a sentence in unsupported.
const sample = `
    annotations: {a: b}
    attach: false
    blkio_config: {weight: 300}
    build: .
    cap_add: [ALL]
    cap_drop: [NET_RAW]
    cgroup: host
    cgroup_parent: m
    cpu_count: 2
    cpu_percent: 50
    cpu_period: 1000
    cpu_quota: 1000
    cpu_rt_period: 1000
    cpu_rt_runtime: 1000
    cpu_shares: 5
    cpuset: 0,1
    credential_spec: {file: c.json}
    develop: {watch: [{path: ., action: rebuild}]}
    device_cgroup_rules: ["c 1:3 mr"]
    devices: ["/dev/fuse"]
    dns: [1.1.1.1]
    dns_opt: [use-vc]
    dns_search: example.org
    domainname: example.org
    external_links: [other]
    extra_hosts: ["a:1.2.3.4"]
    gpus: all
    group_add: [mail]
    ipc: host
    isolation: default
    logging: {driver: syslog}
    mem_reservation: 1m
    mem_swappiness: 10
    memswap_limit: 1g
    oom_kill_disable: true
    oom_score_adj: 5
    pid: host
    post_start: [{command: a}]
    pre_start: [{command: a, image: b}]
    pre_stop: [{command: a}]
    pull_refresh_after: 1d
    read_only: true
    runtime: runc
    secrets: [s]
    security_opt: ["label:disable"]
    stdin_open: true
    storage_opt: {size: 1G}
    tty: true
    umask: "077"
    use_api_socket: true
    userns_mode: host
    uts: host
    volumes_from: [other]
    models: [m]
`

func TestEachUnhonouredKeyIsNamedWithItsLine(t *testing.T) {
	yaml := "secrets: {s: {environment: S}}\nmodels: {m: {model: a}}\nservices:\n  other: {image: x}\n  web:\n    image: x" + sample
	p, err := loadText(t, yaml)
	if err != nil {
		t.Fatal(err)
	}

	lines := map[string]int{}
	for _, w := range p.Warnings {
		lines[w.Key] = w.Line
	}

	for i, line := range strings.Split(yaml, "\n") {
		key, _, ok := strings.Cut(strings.TrimPrefix(line, "    "), ":")
		if i < 6 || !ok {
			continue
		}

		if lines["services.web."+key] != i+1 {
			t.Errorf("%s: warned of in line %d, want line %d", key, lines["services.web."+key], i+1)
		}
	}

	// These are not in the schema any more, or have keys below that are honoured.
	gone := []string{"deploy", "dockerfile", "log_driver", "log_opt", "net", "volume_driver", "provider"}
	for key := range unsupported {
		if !strings.ContainsAny(key, "./") && !slices.Contains(gone, key) && lines["services.web."+key] == 0 {
			t.Errorf("%s: the sample does not have it", key)
		}
	}
}

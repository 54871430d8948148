package internal_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/agent"
)

const shippedSettings = "../packaging/etc/agent.toml"

// commented matches a key that stands commented in the shipped file.
var commented = regexp.MustCompile(`(?m)^#(\w+ = )`)

func TestShippedSettingsAreTheDefaults(t *testing.T) {
	got, err := agent.ReadSettings(shippedSettings)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, agent.Settings{}) {
		t.Errorf("agent.toml as shipped sets %+v: comment every key", got)
	}
}

func TestShippedSettingsAreValidUncommented(t *testing.T) {
	b, err := os.ReadFile(shippedSettings)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent.toml")
	err = os.WriteFile(path, commented.ReplaceAll(b, []byte("$1")), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = agent.ReadSettings(path)
	if err != nil {
		t.Error(err)
	}
}

func TestEverySettingIsExplained(t *testing.T) {
	shipped, err := os.ReadFile(shippedSettings)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../packaging/man/agent.toml.5")
	if err != nil {
		t.Fatal(err)
	}
	keys := settingKeys(reflect.TypeFor[agent.Settings]())
	if len(keys) < 5 {
		t.Fatalf("found only %q", keys)
	}
	for _, key := range keys {
		if !strings.Contains(string(shipped), "\n#"+key+" = ") {
			t.Errorf("packaging/etc/agent.toml does not show %s", key)
		}
		if !strings.Contains(string(page), "\n.It Ic "+key+" ") {
			t.Errorf("packaging/man/agent.toml.5 does not explain %s", key)
		}
	}
	for _, m := range commented.FindAllStringSubmatch(string(shipped), -1) {
		key, _, _ := strings.Cut(m[1], " ")
		if !strings.Contains(strings.Join(keys, " ")+" ", key+" ") {
			t.Errorf("packaging/etc/agent.toml shows %s, which the agent does not know", key)
		}
	}
}

// settingKeys lists the names of the keys, without the tables they are in.
func settingKeys(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, settingKeys(f.Type)...)
			continue
		}
		keys = append(keys, f.Tag.Get("toml"))
	}
	return keys
}

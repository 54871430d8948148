package health

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSpecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dur := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(int64(minInterval), int64(maxDuration)).Draw(t, name))
		}
		want := Spec{
			Interval: dur("interval"), Timeout: dur("timeout"), StartPeriod: dur("period"), StartInterval: dur("start interval"),
			Retries: rapid.IntRange(1, 100).Draw(t, "retries"), Successes: rapid.IntRange(1, 9).Draw(t, "successes"), Stretch: rapid.IntRange(1, maxStretch).Draw(t, "stretch"),
			Early:       rapid.Bool().Draw(t, "early"),
			OnUnhealthy: rapid.SampledFrom([]Reaction{ReactRestart, ReactNone, ReactStop, ReactNotify}).Draw(t, "reaction"),
		}
		mode := rapid.SampledFrom([]Mode{ModeNo, ModeAlways, ModeUnlessStopped, ModeOnFailure}).Draw(t, "mode")
		want.Restart = Policy{Mode: mode, Max: rapid.IntRange(0, 9).Draw(t, "max"), Delay: dur("delay"), Window: dur("window")}
		if rapid.Bool().Draw(t, "probe") {
			want.Probe = &Probe{Type: "http", Port: rapid.IntRange(1, 65535).Draw(t, "port"), Path: "/a?b", Headers: map[string]string{"A": "b"}}
		} else {
			want.Test = []string{rapid.SampledFrom([]string{"CMD", "CMD-SHELL"}).Draw(t, "word"), "x" + rapid.String().Draw(t, "arg")}
		}
		got, watched, _, err := ParseSpec(want.Config())
		if err != nil || !watched {
			t.Fatalf("watched %v: %v", watched, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestH01Forms(t *testing.T) {
	for _, c := range []struct {
		test string
		want []string
		err  string
	}{
		{`["CMD","a","b c"]`, []string{"a", "b c"}, ""},
		{`["CMD-SHELL","exit 1","||","true"]`, []string{"/bin/sh", "-c", "exit 1 || true"}, ""},
		{`["NONE"]`, nil, ""},
		{`null`, nil, ""},
		{`["curl","x"]`, nil, `begin the list with "CMD", "CMD-SHELL" or "NONE"`},
		{`["CMD"]`, nil, "write a command"},
		{`exit 1`, nil, "write a JSON list"},
	} {
		spec, _, _, err := ParseSpec(keys(KeyTest, c.test))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q", c.test, err, c.err)
		}
		if d := cmp.Diff(c.want, spec.Argv()); d != "" {
			t.Errorf("%s: %s", c.test, d)
		}
	}
}

func TestH02DefaultsAndBounds(t *testing.T) {
	spec, _, _, err := ParseSpec(keys(KeyTest, `["CMD","x"]`, KeyInterval, "0s", KeyRetries, "0"))
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{
		Test: []string{"CMD", "x"}, Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3,
		Successes: 1, Stretch: 1, OnUnhealthy: ReactNone,
	}
	if d := cmp.Diff(want, spec); d != "" {
		t.Error(d)
	}
	for key, values := range map[string][]string{
		KeyInterval: {"-1s", "99ms", "25h", "soon"}, KeyTimeout: {"-1s", "1us"}, KeyStartPeriod: {"-1s", "25h"}, KeyStartInterval: {"1ms"},
		KeyRetries: {"-1", "many"}, KeyStretch: {"5", "much"}, KeyRestart: {"sometimes", "on-failure:0", "on-failure:x", "always:3"}, KeyOnUnhealthy: {"cry"},
		KeyProbe: {`{}`, `{"type":"tcp"}`, `{"type":"http","path":"x"}`, `{"type":"http","typo":1}`, `{"type":"dns"}`, `{"type":"tcp","port":70000}`},
	} {
		for _, v := range values {
			config := keys(KeyTest, `["CMD","x"]`, key, v)
			_, _, _, err := ParseSpec(config)
			if err == nil && key == KeyRestart {
				_, _, _, err = ParseSpec(config)
			}
			if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "write") && !strings.Contains(err.Error(), "only on-failure") && !strings.Contains(err.Error(), "begin") {
				t.Errorf("%s=%s: error %v does not say what to write", key, v, err)
			}
		}
	}
}

func TestH36OptIn(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  map[string]string
		watched bool
		why     string
	}{
		{"a check", keys(KeyTest, `["CMD","x"]`), true, ""},
		{"a policy", keys(KeyRestart, "always"), true, ""},
		{"not enabled", map[string]string{KeyTest: `["CMD","x"]`}, false, KeyEnabled + " is not true"},
		{"ignored", keys(KeyTest, `["CMD","x"]`, KeyIgnore, "true"), false, KeyIgnore + " is set"},
		{"nothing wanted", keys(), false, ""},
		{"an instance like any other", map[string]string{"boot.autostart": "true"}, false, ""},
	} {
		_, watched, why, err := ParseSpec(c.config)
		if watched != c.watched || why != c.why || err != nil {
			t.Errorf("%s: %v %q %v", c.name, watched, why, err)
		}
	}
}

package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/command"
)

// TestMain lets the test program serve as the wrapper, as main does.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == WrapperName {
		os.Exit(RunOCI(os.Args))
	}
	os.Exit(m.Run())
}

var lacksResource = holdBack{capabilities: []string{"CAP_SYS_RESOURCE"}}

func TestEditSpecTakesOutWhatTheHostCannotGive(t *testing.T) {
	for _, tc := range []struct {
		name   string
		held   holdBack
		before string
		after  string
	}{
		{"every set loses the capability", lacksResource,
			`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"],"permitted":["CAP_SYS_RESOURCE","CAP_KILL"],"ambient":[]}}}`,
			`{"process":{"capabilities":{"bounding":["CAP_CHOWN"],"effective":[],"permitted":["CAP_KILL"],"ambient":[]}}}`},
		{"several capabilities go at once", holdBack{capabilities: []string{"CAP_SYS_TIME", "CAP_BPF"}},
			`{"process":{"capabilities":{"bounding":["CAP_BPF","CAP_CHOWN","CAP_SYS_TIME"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":1}],"oomScoreAdj":-500}}`,
			`{"process":{"capabilities":{"bounding":["CAP_CHOWN"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":1}],"oomScoreAdj":-500}}`},
		{"limits are not set without CAP_SYS_RESOURCE", lacksResource,
			`{"process":{"rlimits":[{"type":"RLIMIT_NOFILE","hard":1048576,"soft":1048576}]}}`, `{"process":{}}`},
		{"an OOM score is not lowered", lacksResource, `{"process":{"oomScoreAdj":-997}}`, `{"process":{}}`},
		{"an OOM score below this process's own is not set", holdBack{capabilities: []string{"CAP_SYS_RESOURCE"}, oomScoreAdj: 300},
			`{"process":{"oomScoreAdj":299}}`, `{"process":{}}`},
		{"an OOM score may be raised", lacksResource, `{"process":{"oomScoreAdj":1000}}`, `{"process":{"oomScoreAdj":1000}}`},
		{"nothing is held back, nothing changes", holdBack{},
			`{"process":{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]},"oomScoreAdj":-500,"rlimits":[]}}`,
			`{"process":{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]},"oomScoreAdj":-500,"rlimits":[]}}`},
		{"no process", lacksResource, `{"ociVersion":"1.0.2","linux":{"resources":{}}}`, `{"ociVersion":"1.0.2","linux":{"resources":{}}}`},
		{"a process that is null", lacksResource, `{"process":null}`, `{"process":null}`},
		{"capabilities that are null", lacksResource, `{"process":{"capabilities":null,"oomScoreAdj":null}}`, `{"process":{"capabilities":null,"oomScoreAdj":null}}`},
		{"a set that is null", lacksResource, `{"process":{"capabilities":{"ambient":null}}}`, `{"process":{"capabilities":{"ambient":null}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := editSpec([]byte(tc.before), tc.held)
			require.NoError(t, err)
			require.JSONEq(t, tc.after, string(got))
		})
	}
}

func TestEditSpecKeepsTheRest(t *testing.T) {
	// A number that no float64 holds, and a key that nobody knows.
	const rest = `{"memory":{"limit":9223372036854775807},"x":1e400}`
	got, err := editSpec([]byte(`{"linux":`+rest+`,"process":{"args":["<a>&"],"oomScoreAdj":-1}}`), lacksResource)
	require.NoError(t, err)
	var doc map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(got, &doc))
	require.Equal(t, rest, string(doc["linux"]))
	var process struct{ Args []string }
	require.NoError(t, json.Unmarshal(doc["process"], &process))
	require.Equal(t, []string{"<a>&"}, process.Args)
}

func TestEditSpecRefusesWhatIsNoSpec(t *testing.T) {
	for _, text := range []string{"", "[]", `{"process":7}`, `{"process":{"capabilities":[]}}`, `{"process":{"capabilities":{"bounding":"x"}}}`, `{"process":{"oomScoreAdj":"low"}}`} {
		_, err := editSpec([]byte(text), lacksResource)
		require.Error(t, err, text)
	}
}

func FuzzEditSpec(f *testing.F) {
	f.Add([]byte(`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"]},"rlimits":[],"oomScoreAdj":-5},"linux":{"x":1}}`))
	f.Add([]byte(`{"process":null}`))
	f.Add([]byte(`{"process":{"capabilities":{"ambient":null}}}`))
	f.Add([]byte(`{"a":1e999,"process":{}}`))
	f.Add([]byte(`{"process":{"CApABilities":{"x":["CAP_SYS_RESOURCE"]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := editSpec(data, lacksResource)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(data, &before) != nil || json.Unmarshal(got, &after) != nil || len(before) != len(after) {
			t.Fatalf("%q became %q", data, got)
		}
		again, err := editSpec(got, lacksResource)
		if err != nil || string(again) != string(got) {
			t.Fatalf("a second edit changed %q to %q (%v)", got, again, err)
		}
		// Exact keys only, unlike what decoding into a struct accepts.
		var process, sets map[string]json.RawMessage
		if json.Unmarshal(after["process"], &process) != nil || json.Unmarshal(process["capabilities"], &sets) != nil {
			return
		}
		for set, raw := range sets {
			var names []string
			if json.Unmarshal(raw, &names) == nil && slices.Contains(names, "CAP_SYS_RESOURCE") {
				t.Fatalf("%s still holds it: %q", set, got)
			}
		}
	})
}

func TestParseRuntimeCallFindsTheFileToEdit(t *testing.T) {
	for _, tc := range []struct {
		name string
		argv string
		want runtimeCall
	}{
		{"create as containerd calls it", "w --root /r --log /l/log.json --log-format json create --bundle /b --pid-file /b/init.pid abc",
			runtimeCall{"create", "/b/config.json", true, "/l/log.json"}},
		{"flags with equals signs", "w --log=/x run --bundle=/b abc", runtimeCall{"run", "/b/config.json", true, "/x"}},
		{"the short bundle flag", "w create -b /b abc", runtimeCall{"create", "/b/config.json", true, ""}},
		{"no bundle is the current folder", "w run abc", runtimeCall{"run", "config.json", true, ""}},
		{"exec with a process file", "w --root /r exec --process /p.json --console-socket /s --detach --pid-file /f abc", runtimeCall{"exec", "/p.json", false, ""}},
		{"exec by hand has none", "w exec abc ls --process /p.json", runtimeCall{"exec", "", false, ""}},
		{"a flag without a value", "w --systemd-cgroup --debug create --no-pivot --bundle /b abc", runtimeCall{"create", "/b/config.json", true, ""}},
		{"other commands", "w --root /r kill --all abc 9", runtimeCall{"kill", "", false, ""}},
		{"a version question", "w --version", runtimeCall{}},
		{"nothing", "w", runtimeCall{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, parseRuntimeCall(strings.Fields(tc.argv)))
		})
	}
}

func FuzzParseRuntimeCall(f *testing.F) {
	f.Add("w --root /r create --bundle /b abc")
	f.Add("w exec -p")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		call := parseRuntimeCall(strings.Split(line, " "))
		if call.wholeSpec && call.file == "" {
			t.Fatalf("%q: a spec without a file", line)
		}
	})
}

// runAsWrapper runs the test program under the wrapper's name, with a runc that
// shows its command line.
func runAsWrapper(t *testing.T, args ...string) (command.Output, error) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(self, filepath.Join(dir, WrapperName)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "runc"), []byte("#!/bin/sh\necho runc \"$@\"\n"), 0o755))
	return command.Exec{}.Run(t.Context(), command.Cmd{
		Argv: append([]string{filepath.Join(dir, WrapperName)}, args...), Env: []string{"PATH=" + dir + ":/usr/bin:/bin"}})
}

func TestTheWrapperEditsThenBecomesRunc(t *testing.T) {
	bundle := t.TempDir()
	config := filepath.Join(bundle, "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"]}}}`), 0o640))
	out, err := runAsWrapper(t, "--log", filepath.Join(bundle, "log.json"), "create", "--bundle", bundle, "abc")
	require.NoError(t, err)
	require.Equal(t, "runc --log "+filepath.Join(bundle, "log.json")+" create --bundle "+bundle+" abc\n", string(out.Stdout))
	held, err := heldBack("/proc")
	require.NoError(t, err)
	want, err := editSpec([]byte(`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"]}}}`), held)
	require.NoError(t, err)
	got, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	info, err := os.Stat(config)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
}

func TestTheWrapperLogsWhyItFailed(t *testing.T) {
	bundle := t.TempDir()
	log := filepath.Join(bundle, "log.json")
	out, err := runAsWrapper(t, "--log", log, "create", "--bundle", bundle, "abc")
	require.Error(t, err)
	require.Contains(t, string(out.Stderr), "config.json: no such file or directory")
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	var line struct{ Level, Msg string }
	require.NoError(t, json.Unmarshal(data, &line))
	require.Equal(t, "error", line.Level)
	require.Contains(t, line.Msg, "config.json: no such file or directory")
}

func TestTheWrapperAnswersTheHandshake(t *testing.T) {
	out, err := runAsWrapper(t, handshakeFlag)
	require.NoError(t, err)
	require.Equal(t, "meshsim-oci-runtime ready\n", string(out.Stdout))
}

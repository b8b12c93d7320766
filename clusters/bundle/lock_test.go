package bundle

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

// smallLock is a lock with one program of ours and one image that can only be pulled.
const smallLock = `apiVersion: meshsim.dev/v1alpha1
kind: BundleLock
revision: 1
images:
- {name: tiny, build: {program: ./tiny/cmd/tiny, entrypoint: [/tiny]}}
- {name: official, version: v1, pull: "registry.example/some/official:v1"}
`

func TestTheShippedLockIsValidAndHasEverything(t *testing.T) {
	l, err := Locked()
	require.NoError(t, err)
	var names []string
	for _, i := range l.Images {
		names = append(names, i.Name)
	}
	require.Equal(t, []string{
		"node", "cert-manager-controller", "cert-manager-webhook", "cert-manager-cainjector", "cert-manager-ctl",
		"vault", "metrics-server", "postgres", "prometheus",
		"linkerd-controller", "linkerd-policy-controller", "linkerd-proxy", "linkerd-proxy-init",
		"fakeshop", "fakemesh", "fakeaws", "agent", "podtargets", "registry",
	}, names)
	for _, i := range l.Images {
		ours := i.Build != nil && isOwn(i.Build.Program)
		require.Equal(t, !ours, i.Pull != "", "%s is either ours or has an official image", i.Name)
	}
	var charts []string
	for _, c := range l.Charts {
		charts = append(charts, c.Name)
	}
	require.Equal(t, []string{"cert-manager", "linkerd-crds", "linkerd-control-plane", "vault"}, charts)
}

func TestAWrongLockIsRefusedWithEachProblem(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(smallLock, old, new, 1) }
	for name, c := range map[string]struct {
		lock     string
		problems []string
	}{
		"an unknown key": {edit("revision: 1", "revsion: 1"), []string{"line 3", "revsion"}},
		"a wrong type":   {edit("revision: 1", "revision: one"), []string{"line 3", "one"}},
		"two documents":  {smallLock + "---\n{}\n", []string{"more than one document"}},
		"not YAML":       {"{", []string{"read it"}},
		"empty":          {"", []string{"read it: EOF"}},
		"another kind and no images": {"apiVersion: v1\nkind: List\n",
			[]string{`"v1", "List"`, "there are no images"}},
		"a name twice":            {edit("name: official", "name: tiny"), []string{`image "tiny" is there twice`}},
		"a name that is a path":   {edit("name: tiny", "name: ../tiny"), []string{`image "../tiny": not a name`}},
		"nothing to do":           {edit(`, pull: "registry.example/some/official:v1"`, ""), []string{"neither pull nor build"}},
		"a bad reference":         {edit("official:v1", "official"), []string{`image "official": pull`}},
		"a program outside":       {edit("./tiny/cmd/tiny", "./../tiny"), []string{"leaves the checkout"}},
		"a program of no project": {edit("./tiny/cmd/tiny", "vault/vault"), []string{"is in no upstream", "version is needed"}},
		"a tree that is not there": {edit("entrypoint: [/tiny]", "tree: apps, keep: [/bin/sh]"),
			[]string{`tree "apps" must be one of debian.trees`}},
		"keep without a tree":     {edit("entrypoint: [/tiny]", "keep: [/bin/sh]"), []string{"keep, drop and package need a tree"}},
		"a relative path":         {edit("entrypoint: [/tiny]", "at: tiny"), []string{`path "tiny" is not clean and absolute`}},
		"an unknown node program": {edit("{program: ./tiny/cmd/tiny, entrypoint: [/tiny]}", "{node: {tree: x, kubernetes: y, cni: /z}}"), []string{"node tree", "node kubernetes", "node cni"}},
		"a chart without https": {smallLock + "charts:\n- {name: c, version: 1, pull: http://x, build: {upstream: u, module: m}}\n",
			[]string{"is no https address", `"u" is no upstream`}},
		"an upstream without programs": {smallLock + "upstreams:\n- {name: u, version: v1}\n", []string{"version and programs are needed"}},
		"a tree without packages":      {smallLock + "debian: {suite: B!, trees: [{name: t}]}\n", []string{"has no packages", "no release name"}},
	} {
		_, err := ParseLock([]byte(c.lock))
		require.Error(t, err, name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), name)
		for _, p := range c.problems {
			require.ErrorContains(t, err, p, name)
		}
	}
}

func FuzzParseLock(f *testing.F) {
	f.Add([]byte(smallLock))
	f.Add(lockText)
	f.Add([]byte("images: [{name: a, build: {node: {images: [{ref: x, program: ./a}]}}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLock(text)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("not marked as invalid input: %v", err)
			}
			return
		}
		for _, i := range l.Images {
			if !nameRule.MatchString(i.Name) {
				t.Fatalf("let through the name %q", i.Name)
			}
		}
	})
}

package topology

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestShippedTopologiesHoldWhatTheCaseStudySays(t *testing.T) {
	require.Equal(t, []string{"ci", "eks-1.24", "eks-1.26"}, Shipped())
	for _, tc := range []struct {
		name, version string
		workers       []string // zone/group in order
		vcpu          int
		memoryGiB     int64
	}{
		{"eks-1.24", "v1.24.17", []string{"a/apps", "b/apps", "c/apps", "a/apps", "b/apps", "c/apps"}, 24, 48},
		{"eks-1.26", "v1.26.15", []string{"a/apps", "b/apps", "c/apps", "a/apps", "a/spot", "b/spot", "c/spot"}, 28, 56},
		{"ci", "v1.24.17", []string{"a/apps", "b/apps", "c/apps"}, 12, 24},
	} {
		t.Run(tc.name, func(t *testing.T) {
			top, err := Load(tc.name)
			require.NoError(t, err)
			require.Equal(t, tc.name, top.Name)
			require.Equal(t, tc.version, top.KubernetesVersion)
			require.Equal(t, []string{"us-east-1a", "us-east-1b", "us-east-1c"}, top.Zones)
			require.Equal(t, 600*time.Microsecond, top.CrossZoneDelay)
			require.Equal(t, []StorageClass{{Name: "gp3", Default: true}}, top.StorageClasses)
			var workers []string
			for _, w := range top.Workers() {
				workers = append(workers, strings.TrimPrefix(w.Zone, "us-east-1")+"/"+w.Group.Name)
				require.Equal(t, "t3.large", w.Group.InstanceType)
				require.Equal(t, 35, w.Group.MaxPods)
			}
			require.Equal(t, tc.workers, workers)
			vcpu, memory := top.Capacity()
			require.Equal(t, tc.vcpu, vcpu)
			require.Equal(t, tc.memoryGiB<<30, memory)
		})
	}
}

// valid is a topology that the cases below break.
const valid = `apiVersion: meshsim.dev/v1alpha1
kind: Topology
metadata:
  name: small
spec:
  kubernetesVersion: v1.24.17
  region: us-east-1
  zones: [us-east-1a, us-east-1b]
  nodeGroups:
  - name: apps
    instanceType: t3.large
    vcpu: 4
    memoryGiB: 8
    capacityType: SPOT
    nodes: {us-east-1a: 1, us-east-1b: 2}
    maxPods: 35
    labels: {team: shop}
    taints: ["dedicated=shop:NoSchedule"]
  storageClasses:
  - {name: gp3, default: true}
  crossZoneDelay: 1ms
`

func TestAFileIsReadWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.yaml")
	require.NoError(t, os.WriteFile(path, []byte(valid), 0o600))
	top, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, &Topology{
		Name: "small", KubernetesVersion: "v1.24.17", Region: "us-east-1", Zones: []string{"us-east-1a", "us-east-1b"},
		NodeGroups: []NodeGroup{{
			Name: "apps", InstanceType: "t3.large", VCPU: 4, MemoryGiB: 8, CapacityType: Spot,
			Nodes: map[string]int{"us-east-1a": 1, "us-east-1b": 2}, MaxPods: 35,
			Labels: map[string]string{"team": "shop"}, Taints: []string{"dedicated=shop:NoSchedule"},
		}},
		StorageClasses: []StorageClass{{Name: "gp3", Default: true}},
		CrossZoneDelay: time.Millisecond,
	}, top)
	require.Equal(t, 4, top.Group("apps").VCPU)
	require.Nil(t, top.Group("other"))
}

func TestEveryProblemIsToldWithItsLine(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"an unknown key", "region: us-east-1\n", "region: us-east-1\n  regoin: x\n", []string{`f.yaml:8: unknown key "regoin"`}},
		{"a key given twice", "kind: Topology\n", "kind: Topology\nkind: Topology\n", []string{`f.yaml:3: key "kind" is given twice, first in line 2`}},
		{"a word for a number", "vcpu: 4", "vcpu: four", []string{`f.yaml:12: "four" is not a whole number`}},
		{"a list for a text", "region: us-east-1\n", "region: [a]\n", []string{
			`f.yaml:7: a list is not a text`,
			`f.yaml:8: zone "us-east-1a" is not the region "" and a letter`, `f.yaml:8: zone "us-east-1b" is not the region "" and a letter`}},
		{"a text for a list", "zones: [us-east-1a, us-east-1b]", "zones: us-east-1a", []string{
			`f.yaml:8: "us-east-1a" is not a list`,
			`f.yaml:15: zone "us-east-1a" of node group "apps" is not among the zones`, `f.yaml:15: zone "us-east-1b" of node group "apps" is not among the zones`}},
		{"a bad duration", "crossZoneDelay: 1ms", "crossZoneDelay: soon", []string{`f.yaml:21: "soon" is no duration such as 0.6ms`}},
		{"a delay too long", "crossZoneDelay: 1ms", "crossZoneDelay: 2s", []string{`f.yaml:21: crossZoneDelay 2s is not between 0 and 1s`}},
		{"another kind", "kind: Topology", "kind: Scenario", []string{`f.yaml:2: kind is "Scenario", not "Topology"`}},
		{"another version", "v1alpha1", "v2", []string{`f.yaml:1: apiVersion is "meshsim.dev/v2", not "meshsim.dev/v1alpha1"`}},
		{"a name with blanks", "name: small", "name: a b", []string{`f.yaml:4: metadata.name "a b" is no name: lower-case letters, digits, '-' and '.'`}},
		{"a version without v", "v1.24.17", `"1.24"`, []string{`f.yaml:6: kubernetesVersion "1.24" is not like v1.24.17`}},
		{"a zone of another region", "us-east-1b]", "eu-west-1b]", []string{
			`f.yaml:8: zone "eu-west-1b" is not the region "us-east-1" and a letter`,
			`f.yaml:15: zone "us-east-1b" of node group "apps" is not among the zones`}},
		{"a zone given twice", "us-east-1b]", "us-east-1b, us-east-1a]", []string{`f.yaml:8: zone "us-east-1a" is given twice`}},
		{"no zone", "[us-east-1a, us-east-1b]", "[]", []string{
			`f.yaml:8: zones is empty`,
			`f.yaml:15: zone "us-east-1a" of node group "apps" is not among the zones`, `f.yaml:15: zone "us-east-1b" of node group "apps" is not among the zones`}},
		{"no node", "{us-east-1a: 1, us-east-1b: 2}", "{us-east-1a: 0}", []string{`f.yaml:15: node group "apps" has no nodes`}},
		{"fewer than no nodes", "us-east-1b: 2}", "us-east-1b: -1}", []string{`f.yaml:15: -1 nodes in "us-east-1b" is not between 0 and 100`}},
		{"too many nodes", "us-east-1b: 2}", "us-east-1b: 100}", []string{`f.yaml:10: there are 101 nodes, more than 100`}},
		{"an odd capacity type", "SPOT", "RESERVED", []string{`f.yaml:14: capacityType "RESERVED" is neither ON_DEMAND nor SPOT`}},
		{"too few pods", "maxPods: 35", "maxPods: 1", []string{`f.yaml:16: maxPods 1 is not between 5 and 250`}},
		{"memory that EKS keeps wholly", "memoryGiB: 8\n    capacityType: SPOT\n    nodes: {us-east-1a: 1, us-east-1b: 2}\n    maxPods: 35", "memoryGiB: 1\n    capacityType: SPOT\n    nodes: {us-east-1a: 1, us-east-1b: 2}\n    maxPods: 200",
			[]string{`f.yaml:13: memoryGiB 1 leaves nothing to pods: EKS keeps back more than that for maxPods 200`}},
		{"a bad taint", "dedicated=shop:NoSchedule", "dedicated", []string{`f.yaml:18: taint "dedicated" is not key=value:NoSchedule, :PreferNoSchedule or :NoExecute`}},
		{"no default class", "default: true", "default: false", []string{`f.yaml:20: 0 of the storageClasses are the default; it takes one`}},
		{"two default classes", "- {name: gp3, default: true}", "- {name: gp3, default: true}\n  - {name: gp3, default: true}", []string{
			`f.yaml:20: 2 of the storageClasses are the default; it takes one`, `f.yaml:21: storage class "gp3" is given twice`}},
		{"two faults at once", "vcpu: 4\n    memoryGiB: 8", "vcpu: -4\n    memoryGib: 8", []string{
			`f.yaml:10: memoryGiB 0 is not between 1 and 24576`, `f.yaml:12: vcpu -4 is not between 1 and 448`, `f.yaml:13: unknown key "memoryGib"`}},
		{"two documents", "crossZoneDelay: 1ms\n", "crossZoneDelay: 1ms\n---\n{}\n", []string{`f.yaml:1: the file holds more than one document`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Contains(t, valid, tc.old, "the case must change something")
			_, err := Parse("f.yaml", []byte(strings.Replace(valid, tc.old, tc.new, 1)))
			require.Error(t, err)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			told := strings.Split(err.Error(), "\n")
			require.Equal(t, tc.want, told[:len(told)-1])
			require.Contains(t, told[len(told)-1], "mend: docs/scenarios.md")
		})
	}
}

func TestWhatIsNoTopologyAtAllIsRefused(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"an empty file", "", "f.yaml:1: the file is empty"},
		{"only a comment", "# nothing\n", "f.yaml:1: the file is empty"},
		{"a list", "- 1\n", "f.yaml:1: the file is no mapping of keys to values"},
		{"broken YAML", "a: b\n\tc: d\n", "f.yaml:2: found a tab character that violates indentation"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(tc.text))
			require.EqualError(t, err, tc.want+"\n  mend: "+mend)
		})
	}
}

func TestTheDocumentsTopologyIsOne(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "scenarios.md"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(raw), "## Topologies\n")
	require.True(t, found)
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```\n")
	top, err := Parse("docs/scenarios.md", []byte(text))
	require.NoError(t, err)
	require.Equal(t, "staging", top.Name)
	require.Len(t, top.Workers(), 3)
}

func TestAnUnknownNameIsToldWithTheKnownOnes(t *testing.T) {
	_, err := Load("eks-9")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, `there is no topology "eks-9"`)
	require.ErrorContains(t, err, "name one of ci, eks-1.24, eks-1.26")
	_, err = Load(t.TempDir())
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func FuzzParse(f *testing.F) {
	for _, name := range Shipped() {
		data, err := shipped.ReadFile(name + ".yaml")
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(valid))
	f.Add([]byte("spec: {zones: &a [x, *a]}"))
	f.Add([]byte("a: b\nc: [1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := Parse("f.yaml", data)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid || !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Fatalf("error without file and line: %v", err)
			}
			return
		}
		if n := len(top.Workers()); n < 1 || n > maxNodes {
			t.Fatalf("%d workers were let through", n)
		}
	})
}

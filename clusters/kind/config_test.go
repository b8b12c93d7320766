package kind

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/topology"
)

const (
	gb      = int64(1) << 30
	kubelet = "kind: KubeletConfiguration\nnodeStatusUpdateFrequency: 2s\nnodeStatusReportFrequency: 5m\n"
)

func shipped(t *testing.T, name string) *topology.Topology {
	t.Helper()
	top, err := topology.Load(name)
	require.NoError(t, err)
	return top
}

func TestTheConfigOfCI(t *testing.T) {
	cfg, nodes, notes, err := render(spec{name: "meshsim", topology: shipped(t, "ci"), nodeImage: "meshsim.local/node:v1", certsDir: "/c/certs.d",
		host: hostInfo{CPUs: 8, MemoryBytes: 32 * gb, CgroupVersion: "2"}})
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, []Node{
		{Name: "meshsim-control-plane"},
		{Name: "meshsim-worker", Zone: "us-east-1a", NodeGroup: "apps"},
		{Name: "meshsim-worker2", Zone: "us-east-1b", NodeGroup: "apps"},
		{Name: "meshsim-worker3", Zone: "us-east-1c", NodeGroup: "apps"},
	}, nodes)
	mounts := []v1alpha4.Mount{{HostPath: "/c/certs.d", ContainerPath: "/etc/containerd/certs.d", Readonly: true}}
	require.Equal(t, v1alpha4.Cluster{
		TypeMeta:   v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:       "meshsim",
		Networking: v1alpha4.Networking{IPFamily: v1alpha4.IPv4Family, APIServerAddress: "127.0.0.1", ServiceSubnet: "10.96.0.0/16"},
		Nodes:      cfg.Nodes,

		KubeadmConfigPatches: []string{kubelet},
	}, *cfg)
	require.Len(t, cfg.Nodes, 4)
	require.Equal(t, v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: "meshsim.local/node:v1",
		Labels: map[string]string{"topology.kubernetes.io/region": "us-east-1"}, ExtraMounts: mounts}, cfg.Nodes[0])
	require.Equal(t, v1alpha4.Node{
		Role: v1alpha4.WorkerRole, Image: "meshsim.local/node:v1", ExtraMounts: mounts,
		Labels: map[string]string{
			"topology.kubernetes.io/zone": "us-east-1b", "topology.kubernetes.io/region": "us-east-1", "node.kubernetes.io/instance-type": "t3.large",
			"eks.amazonaws.com/nodegroup": "apps", "eks.amazonaws.com/capacityType": "ON_DEMAND",
		},
		// 8000m less 3920m; 32 GiB less 7452 MiB.
		KubeadmConfigPatches: []string{`kind: JoinConfiguration
nodeRegistration:
  kubeletExtraArgs:
    housekeeping-interval: 30s
    max-pods: "35"
    provider-id: aws:///us-east-1b/i-0878ff8e80d7bc6ee
    system-reserved: cpu=4080m,memory=25923584Ki
`},
	}, cfg.Nodes[2])
}

func TestTheConfigFollowsGroupsTaintsAndLabels(t *testing.T) {
	top := shipped(t, "eks-1.26")
	top.NodeGroups[1].Labels = map[string]string{"team": "shop"}
	top.NodeGroups[1].Taints = []string{"spot=true:NoSchedule", "slow:PreferNoSchedule"}
	cfg, nodes, notes, err := render(spec{name: "a", topology: top, host: hostInfo{CPUs: 2, MemoryBytes: 4 * gb, CgroupVersion: "1"}, patchContainerd: true})
	require.NoError(t, err)
	require.Len(t, nodes, 8)
	require.Equal(t, "a-worker7", nodes[7].Name)
	spot := cfg.Nodes[7]
	require.Equal(t, "shop", spot.Labels["team"])
	require.Equal(t, "SPOT", spot.Labels["eks.amazonaws.com/capacityType"])
	require.Equal(t, []string{`kind: JoinConfiguration
nodeRegistration:
  kubeletExtraArgs:
    housekeeping-interval: 30s
    max-pods: "35"
    provider-id: aws:///us-east-1c/i-0` + instanceID("a-worker7")[3:] + `
  taints:
  - effect: NoSchedule
    key: spot
    value: "true"
  - effect: PreferNoSchedule
    key: slow
`}, spot.KubeadmConfigPatches)
	require.Equal(t, []string{"[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"}, cfg.ContainerdConfigPatches)
	require.Equal(t, []string{
		"a node of group apps offers 2 CPUs, where a t3.large has 4: the host has no more",
		"a node of group apps offers 4.0 GiB of memory, where a t3.large has 8 GiB: the host has no more",
		"a node of group spot offers 2 CPUs, where a t3.large has 4: the host has no more",
		"a node of group spot offers 4.0 GiB of memory, where a t3.large has 8 GiB: the host has no more",
	}, notes)
}

func TestKubernetesVersionsThatCanBeRaised(t *testing.T) {
	for _, tc := range []struct {
		version, cgroup string
		patch           string
		refused         bool
	}{
		{"v1.24.17", "1", kubelet, false},
		{"v1.34.0", "1", kubelet, false},
		{"v1.35.1", "1", kubelet + "failCgroupV1: false\n", false},
		{"v1.35.1", "2", kubelet, false},
		{"v1.22.0", "1", "", true},
		{"v1.36.0", "2", "", true},
		{"v2.24.0", "2", "", true},
		{"1.24", "2", "", true},
	} {
		t.Run(tc.version+" on cgroup v"+tc.cgroup, func(t *testing.T) {
			top := shipped(t, "ci")
			top.KubernetesVersion = tc.version
			cfg, _, _, err := render(spec{name: "a", topology: top, host: hostInfo{CPUs: 2, MemoryBytes: gb, CgroupVersion: tc.cgroup}})
			if tc.refused {
				require.Equal(t, fault.Invalid, fault.KindOf(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{tc.patch}, cfg.KubeadmConfigPatches)
		})
	}
}

func TestInstanceIDsLookLikeEC2sAndStay(t *testing.T) {
	require.Regexp(t, `^i-0[0-9a-f]{16}$`, instanceID("meshsim-worker"))
	require.Equal(t, instanceID("meshsim-worker"), instanceID("meshsim-worker"))
	require.NotEqual(t, instanceID("meshsim-worker"), instanceID("meshsim-worker2"))
}

func TestWhereNodesPullFrom(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writeMirrors(dir, map[string]string{"docker.io": "one", "localhost:5001": "two"}))
	require.FileExists(t, dir+"/docker.io/hosts.toml")
	require.FileExists(t, dir+"/localhost_5001_/hosts.toml")
	require.Equal(t, "http://a-registry:5000", registryURL("a"))
}

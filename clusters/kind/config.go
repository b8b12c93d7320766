package kind

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/topology"
)

// spec is all that kind's config is made of.
type spec struct {
	name      string
	topology  *topology.Topology
	host      hostInfo
	nodeImage string
	certsDir  string
	// patchContainerd tells containerd to read certsDir; a node image that was
	// built here knows already, and need not restart its containerd.
	patchContainerd bool
}

// Node labels and paths that EKS and containerd give their names.
const (
	zoneLabel     = "topology.kubernetes.io/zone"
	regionLabel   = "topology.kubernetes.io/region"
	instanceLabel = "node.kubernetes.io/instance-type"
	groupLabel    = "eks.amazonaws.com/nodegroup"
	capacityLabel = "eks.amazonaws.com/capacityType"

	nodeCertsDir = "/etc/containerd/certs.d"
)

const registryPatch = `[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "` + nodeCertsDir + `"
`

// render makes kind's config, the nodes in its order, and notes on what the
// host could not be made to look like.
func render(s spec) (*v1alpha4.Cluster, []Node, []string, error) {
	minor, err := minorVersion(s.topology.KubernetesVersion)
	if err != nil {
		return nil, nil, nil, err
	}
	mount := v1alpha4.Mount{HostPath: s.certsDir, ContainerPath: nodeCertsDir, Readonly: true}
	cfg := &v1alpha4.Cluster{
		TypeMeta:   v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Name:       s.name,
		Networking: v1alpha4.Networking{IPFamily: v1alpha4.IPv4Family, APIServerAddress: "127.0.0.1", ServiceSubnet: serviceSubnet},
	}
	if s.patchContainerd {
		cfg.ContainerdConfigPatches = []string{registryPatch}
	}
	cfg.KubeadmConfigPatches = []string{kubeletPatch(minor, s.host)}
	cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: s.nodeImage,
		Labels: map[string]string{regionLabel: s.topology.Region}, ExtraMounts: []v1alpha4.Mount{mount}})
	nodes := []Node{{Name: s.name + "-control-plane"}}
	for i, w := range s.topology.Workers() {
		node := Node{Name: workerName(s.name, i), Zone: w.Zone, NodeGroup: w.Group.Name}
		patch, err := joinPatch(s, node, w)
		if err != nil {
			return nil, nil, nil, err
		}
		cfg.Nodes = append(cfg.Nodes, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: s.nodeImage,
			Labels: nodeLabels(s.topology, w), ExtraMounts: []v1alpha4.Mount{mount}, KubeadmConfigPatches: []string{patch}})
		nodes = append(nodes, node)
	}
	return cfg, nodes, shapeNotes(s), nil
}

// kubeletPatch is what every node's kubelet is told beside kind's own. A
// kubelet says that its node is ready when it next looks at itself; looking
// more often than the usual 10 s shortens raising by some seconds. It still
// reports only what has changed: unsaid, it would report as often as it looks.
func kubeletPatch(minor int, h hostInfo) string {
	patch := "kind: KubeletConfiguration\nnodeStatusUpdateFrequency: 2s\nnodeStatusReportFrequency: 5m\n"
	// Kubelets of these versions leave a cgroup v1 host unless told to stay.
	if h.CgroupVersion == "1" && minor >= 35 {
		patch += "failCgroupV1: false\n"
	}
	return patch
}

// workerName is the name that kind gives the i-th worker, counted from 0.
func workerName(cluster string, i int) string {
	if i == 0 {
		return cluster + "-worker"
	}
	return cluster + "-worker" + strconv.Itoa(i+1)
}

// nodeLabels are those that EKS sets, and the group's own.
func nodeLabels(t *topology.Topology, w topology.Worker) map[string]string {
	labels := map[string]string{
		zoneLabel:     w.Zone,
		regionLabel:   t.Region,
		instanceLabel: w.Group.InstanceType,
		groupLabel:    w.Group.Name,
		capacityLabel: w.Group.CapacityType,
	}
	for k, v := range w.Group.Labels {
		labels[k] = v
	}
	return labels
}

// joinPatch is what a worker's kubeadm config gets beside kind's own.
func joinPatch(s spec, node Node, w topology.Worker) (string, error) {
	args := map[string]string{
		"provider-id": "aws:///" + w.Zone + "/" + instanceID(node.Name),
		"max-pods":    strconv.Itoa(w.Group.MaxPods),
		// Seven kubelets that look at every container each 10 s take a tenth of a
		// core; metrics-server's figures are up to this old.
		"housekeeping-interval": "30s",
	}
	if reserved := systemReserved(s.host, w.Group); reserved != "" {
		args["system-reserved"] = reserved
	}
	registration := map[string]any{"kubeletExtraArgs": args}
	var taints []map[string]string
	for _, text := range w.Group.Taints {
		taints = append(taints, taint(text))
	}
	if taints != nil {
		registration["taints"] = taints
	}
	data, err := yaml.Marshal(map[string]any{"kind": "JoinConfiguration", "nodeRegistration": registration})
	return string(data), err
}

// taint takes key=value:Effect apart; the topology has checked its form.
func taint(text string) map[string]string {
	rest, effect, _ := strings.Cut(text, ":")
	key, value, _ := strings.Cut(rest, "=")
	t := map[string]string{"key": key, "effect": effect}
	if value != "" {
		t["value"] = value
	}
	return t
}

// systemReserved keeps back what the host has over the instance, so that the
// node's allocatable is the instance's. A host has no more to give than it has.
func systemReserved(h hostInfo, g *topology.NodeGroup) string {
	wantCPU, wantMemory := g.Allocatable()
	var parts []string
	if over := int64(h.CPUs)*1000 - wantCPU; over > 0 {
		parts = append(parts, fmt.Sprintf("cpu=%dm", over))
	}
	if over := h.MemoryBytes - wantMemory; over > 0 {
		parts = append(parts, fmt.Sprintf("memory=%dKi", over>>10))
	}
	return strings.Join(parts, ",")
}

// shapeNotes say where a node cannot look like its instance.
func shapeNotes(s spec) []string {
	var notes []string
	for i := range s.topology.NodeGroups {
		g := &s.topology.NodeGroups[i]
		wantCPU, wantMemory := g.Allocatable()
		if have := int64(s.host.CPUs) * 1000; have < wantCPU {
			notes = append(notes, fmt.Sprintf("a node of group %s offers %d CPUs, where a %s has %d: the host has no more", g.Name, s.host.CPUs, g.InstanceType, g.VCPU))
		}
		if s.host.MemoryBytes < wantMemory {
			notes = append(notes, fmt.Sprintf("a node of group %s offers %s of memory, where a %s has %d GiB: the host has no more", g.Name, GiB(s.host.MemoryBytes), g.InstanceType, g.MemoryGiB))
		}
	}
	return notes
}

// instanceID looks like EC2's and stays the same for a node's name.
func instanceID(node string) string {
	sum := sha256.Sum256([]byte(node))
	return "i-0" + hex.EncodeToString(sum[:8])
}

// minorVersion of "v1.24.17" is 24. kind v0.33 knows how to start 1.23 and
// later; from 1.36 on it speaks a kubeadm dialect that joinPatch does not.
func minorVersion(version string) (int, error) {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) == 3 && parts[0] == "1" {
		if minor, err := strconv.Atoi(parts[1]); err == nil && minor >= 23 && minor <= 35 {
			return minor, nil
		}
	}
	return 0, fault.NewInvalid(fmt.Errorf("kubernetesVersion %s cannot be raised with kind", version), "choose one from v1.23 to v1.35")
}

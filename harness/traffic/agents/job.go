package agents

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/scenarios"
)

// Namespace holds the agents, and nothing else.
const Namespace = "meshsim-agents"

const (
	groupLabel = "meshsim.dev/agents"
	container  = "agent"
	planFile   = "plan.json"
	user       = 65532 // not the proxy's 2102, whose packets are not redirected
)

func namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: Namespace, Labels: map[string]string{"app.kubernetes.io/managed-by": "meshsim"},
	}}
}

// serviceAccount gives a group an identity in the mesh. It is bound to no role:
// agents ask nothing of the API server.
func serviceAccount(g scenarios.Agents) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: meta(g)}
}

func meta(g scenarios.Agents) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: g.Name, Namespace: Namespace, Labels: map[string]string{
		groupLabel: g.Name, "app.kubernetes.io/managed-by": "meshsim",
	}}
}

func configMap(g scenarios.Agents, p wire.Plan) (*corev1.ConfigMap, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the plan of %s: %w", g.Name, err)
	}
	return &corev1.ConfigMap{ObjectMeta: meta(g), Data: map[string]string{planFile: string(raw)}}, nil
}

// job is a group: an index each, all at once, none started again in another's place.
func job(g scenarios.Agents, image string) *batchv1.Job {
	count, indexed := int32(g.Count), batchv1.IndexedCompletion
	// A Job that gives up ends its other pods with it. The pod that comes in a
	// lost one's place is told nothing, and so sends nothing.
	const backoff = 1000
	return &batchv1.Job{
		ObjectMeta: meta(g),
		Spec: batchv1.JobSpec{
			Completions: &count, Parallelism: &count, CompletionMode: &indexed,
			BackoffLimit: new(int32(backoff)), TTLSecondsAfterFinished: new(int32(600)),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: meta(g).Labels, Annotations: annotations(g)},
				Spec:       podSpec(g, image),
			},
		},
	}
}

func annotations(g scenarios.Agents) map[string]string {
	all := map[string]string{
		"linkerd.io/inject": "disabled",
		"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
	}
	if g.Meshed {
		all["linkerd.io/inject"] = "enabled"
	}
	return all
}

func podSpec(g scenarios.Agents, image string) corev1.PodSpec {
	spec := corev1.PodSpec{
		ServiceAccountName: g.Name, RestartPolicy: corev1.RestartPolicyNever,
		// a proxy may need the token; agents do not
		AutomountServiceAccountToken:  new(g.Meshed),
		TerminationGracePeriodSeconds: new(int64(10)),
		SecurityContext: &corev1.PodSecurityContext{
			FSGroup: new(int64(user)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{ // one machine's limits should not be all agents'
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{groupLabel: g.Name}},
		}},
		Containers: []corev1.Container{agentContainer(g, image)},
		Volumes: []corev1.Volume{
			{Name: "plan", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: g.Name},
			}}},
			{Name: "spool", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
	if g.Zone != "" {
		spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: g.Zone}
	}
	return spec
}

func agentContainer(g scenarios.Agents, image string) corev1.Container {
	args := []string{"traffic", "--plan=/etc/meshsim/" + planFile, "--spool=/var/spool/meshsim/results"}
	if g.Meshed {
		args = append(args, "--shutdown") // else the Job would never end
	}
	return corev1.Container{
		Name: container, Image: image, Args: args,
		Resources: corev1.ResourceRequirements{
			// no CPU limit: throttling would send late
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(int64(user)), RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "plan", MountPath: "/etc/meshsim", ReadOnly: true},
			{Name: "spool", MountPath: "/var/spool/meshsim"},
		},
	}
}

// indexOf is which of its Job's pods a pod is, -1 when it does not say.
func indexOf(p *corev1.Pod) int {
	n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// trouble says why a pod cannot be an agent any more, "" when it can.
func trouble(p *corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if t := s.State.Terminated; s.Name == container && t != nil {
			return fmt.Sprintf("the agent ended with code %d (%s)", t.ExitCode, t.Reason)
		}
	}
	switch {
	case p.Status.Phase == corev1.PodFailed, p.Status.Phase == corev1.PodSucceeded:
		return fmt.Sprintf("the pod has %s (%s)", p.Status.Phase, cmp.Or(p.Status.Reason, "no reason given"))
	case p.DeletionTimestamp != nil:
		return "the pod is being removed"
	}
	return ""
}

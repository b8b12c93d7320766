package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/harness/agent/wire"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/harness/watch"
	"meshsim.dev/meshsim/results"
)

func nodeWith(name, pods string, addresses ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: pods}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Address: a})
	}
	return n
}

func TestCapturesFollowPodsNetworksWhereNodesNameThem(t *testing.T) {
	planted := map[string][]byte{"canary": []byte("12345678")}
	require.ElementsMatch(t, []string{
		"--every=2s", "--pods=10.244.0.0/24,10.244.1.0/24", "--nodes=172.18.0.2,172.18.0.3", "--needle=canary=3132333435363738",
	}, captureArgs([]corev1.Node{nodeWith("a", "10.244.0.0/24", "172.18.0.2", "a"), nodeWith("b", "10.244.1.0/24", "172.18.0.3", "fd00::3")}, planted))
	require.ElementsMatch(t, []string{"--every=2s", "--needle=canary=3132333435363738"},
		captureArgs([]corev1.Node{nodeWith("a", "10.244.0.0/24", "172.18.0.2"), nodeWith("b", "", "172.18.0.3")}, planted), "one does not")
}

func TestTheCapturesHaveNoMoreThanTheyNeed(t *testing.T) {
	tmpl, err := template.New("capture").Parse(captureManifest)
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, tmpl.Execute(&text, map[string]any{"Namespace": "ns", "Image": "agent:1", "Args": []string{"--every=2s"}}))
	objects, err := kube.Decode(text.Bytes())
	require.NoError(t, err)
	require.Len(t, objects, 2)
	raw, err := json.Marshal(objects[1].Object["spec"])
	require.NoError(t, err)
	var spec struct {
		Template struct{ Spec corev1.PodSpec }
	}
	require.NoError(t, json.Unmarshal(raw, &spec))
	pod := spec.Template.Spec
	c := pod.Containers[0]
	require.Equal(t, []string{"capture", "--node=$(NODE)", "--every=2s"}, c.Args)
	require.True(t, pod.HostNetwork)
	require.False(t, *pod.AutomountServiceAccountToken)
	require.Equal(t, []corev1.Capability{"NET_RAW", "NET_ADMIN"}, c.SecurityContext.Capabilities.Add)
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.Empty(t, pod.Volumes)
	require.Equal(t, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations, "on every node")
}

func TestALogThatIsReadAgainCountsOnce(t *testing.T) {
	at := time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)
	var now int64
	c := &capture{
		book:  probes.NewWireBook(func(netip.Addr) watch.Party { return watch.Party{Name: results.PartyOutside} }, []string{"n1"}),
		nodes: []string{"n1"}, now: func() int64 { now += int64(2 * time.Second); return now },
	}
	c.forget()
	c.book.Begin(0, 0)
	line := func(n int) string {
		text, err := json.Marshal(wire.Snapshot{Node: "n1", Seq: n, At: at.Add(time.Duration(2*n) * time.Second), Seconds: 2, Totals: wire.Totals{Packets: 5}})
		require.NoError(t, err)
		return string(text) + "\n"
	}
	require.NoError(t, c.read("capture-1", strings.NewReader(line(1)+line(2))))
	require.NoError(t, c.read("capture-1", strings.NewReader(line(2)+line(3))), "the connection broke")
	require.ErrorContains(t, c.read("capture-1", strings.NewReader("agent: no such device\n")), "understand what it tells")
	c.book.Cut(int64(time.Minute), 0)
	w := c.book.Told(int64(time.Hour), 0)[0]
	require.Equal(t, uint64(15), w.Captures[0].Packets)
	require.True(t, c.told["n1"])
}

func TestListeningEndsWithItsContextAndTellsOfTrouble(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	client := fake.NewClientset(
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "capture-1", Namespace: captureNamespace, Labels: map[string]string{"app": captureName}}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "capture-2", Namespace: captureNamespace, Labels: map[string]string{"app": captureName}}, Status: corev1.PodStatus{Phase: corev1.PodPending}},
	)
	told := make(chan string, 10)
	c := &capture{
		kube: &kube.Client{Clientset: client}, book: probes.NewWireBook(nil, []string{"n1"}), nodes: []string{"n1"}, now: func() int64 { return 0 },
		trouble: func(what, detail string) { told <- what + ": " + detail },
	}
	c.forget()
	ctx, cancel := context.WithCancel(t.Context())
	c.listeners.Go(func() { c.listen(ctx) })
	require.Contains(t, <-told, `capture: capture-1 on n1: understand what it tells, "fake logs"`, "its log is the fake's")
	cancel()
	c.listeners.Wait()
	require.Empty(t, c.listening)
	require.NoError(t, c.end(ctx), "nothing to take away is no error")
}

// podOn is a capture's pod in a state.
func podOn(node string, restarts int32, state corev1.ContainerState, last *corev1.ContainerStateTerminated) corev1.Pod {
	ready := corev1.ConditionFalse
	if state.Running != nil {
		ready = corev1.ConditionTrue
	}
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "capture-" + node}, Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "capture", Ready: state.Running != nil, RestartCount: restarts, State: state, LastTerminationState: corev1.ContainerState{Terminated: last}}},
		},
	}
}

var (
	running  = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	noImage  = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImageNeverPull"}}
	noMemory = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
)

func TestCapturesThatDoNotStartAreNamedWithTheirReason(t *testing.T) {
	var warned []string
	c := &capture{nodes: []string{"n1", "n2", "n3"}, now: func() int64 { return 1 }, trouble: func(what, detail string) { warned = append(warned, what+": "+detail) }}
	c.forget()
	c.look([]corev1.Pod{podOn("n1", 0, running, nil), podOn("n2", 0, noImage, nil)})
	err := c.await(t.Context(), time.Millisecond)
	require.EqualError(t, err, "on none of 3 nodes: they took longer than 1ms: n1: it tells nothing; n2: Running, container capture ErrImageNeverPull; n3: it has no pod there")
	require.Empty(t, warned)

	c.told["n1"] = true
	require.NoError(t, c.await(t.Context(), time.Millisecond), "what one sees is so")
	require.Equal(t, []string{"capture: the capture did not start on every node: n2: Running, container capture ErrImageNeverPull; n3: it has no pod there"}, warned)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.await(ctx, time.Hour), context.Canceled, "the run's end is no trouble of theirs")
	c.told["n2"], c.told["n3"] = true, true
	require.NoError(t, c.await(t.Context(), time.Hour))
	require.Len(t, warned, 1)
}

func TestARecordSaysWhatBecameOfTheCapturesThatItLacks(t *testing.T) {
	var now int64
	var warned []string
	c := &capture{nodes: []string{"n1", "n2", "n3"}, now: func() int64 { return now }, trouble: func(_, detail string) { warned = append(warned, detail) }}
	c.forget()
	c.told["n1"], c.told["n2"] = true, true
	explained := func(from int64, missing ...string) map[string]string {
		w := results.Wire{From: from, Missing: missing}
		c.explain(&w)
		return w.Why
	}
	now = 15
	c.look([]corev1.Pod{podOn("n1", 0, running, nil), podOn("n2", 1, running, noMemory), podOn("n3", 0, noImage, nil)})
	const never, died = "its capture did not start: Running, container capture ErrImageNeverPull", "its capture was silent for some of the time: it ended with code 137 (OOMKilled)"
	require.Equal(t, map[string]string{"n2": died, "n3": never}, explained(10, "n2", "n3"))
	now = 25
	c.look([]corev1.Pod{podOn("n1", 0, running, nil), podOn("n2", 1, running, noMemory), podOn("n3", 0, noImage, nil)})
	require.Equal(t, map[string]string{"n3": never}, explained(20, "n3"))
	require.Equal(t, map[string]string{"n2": "its capture was silent for some of the time", "n3": never}, explained(22, "n2", "n3"), "its death is of an earlier record")
	require.Nil(t, explained(24))
	require.Equal(t, []string{"n2: " + died, "n3: " + never, "n2: its capture was silent for some of the time"}, warned, "once for as long as it lasts")
}

package alb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

// withGates opens the webhook on loopback.
func withGates(t *testing.T) (setup, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return func(b *Balancer) {
		b.watcher.gates = &Gates{Listener: l, Host: func(context.Context) (string, error) { return "127.0.0.1", nil }}
		b.o.Gates = b.watcher.gates
	}, l.Addr().String()
}

// testPod has a gate for a group, and containers that are ready.
func testPod(name, group string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: name, UID: "uid-1", Labels: map[string]string{"app": "shop"}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}}},
	}
	if group != "" {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: corev1.PodConditionType(gatePrefix + group)}}
	}
	return p
}

// gate is the status, the reason and the message of a pod's gate.
func (s *sandbox) gate(t *testing.T, pod, group string) [3]string {
	t.Helper()
	p, err := s.client.CoreV1().Pods("prod-app").Get(t.Context(), pod, metav1.GetOptions{})
	require.NoError(t, err)
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodConditionType(gatePrefix+group) {
			return [3]string{string(c.Status), c.Reason, c.Message}
		}
	}
	return [3]string{}
}

func (s *sandbox) awaitGate(t *testing.T, pod, group string, want [3]string) {
	t.Helper()
	require.Eventually(t, func() bool { return s.gate(t, pod, group) == want }, 5*time.Second, 5*time.Millisecond, "%v", want)
}

func TestAGateOpensWhenThePodsTargetIsHealthy(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2")
	var answers statusSwitch
	serveOn(t, doors[0], &answers)
	serveOn(t, doors[1], http.NotFoundHandler())
	answers.set(503)
	node := testNode("node-1", "127.0.0.9")
	gates, _ := withGates(t)
	ingress, service := restIngress(toPods()), testService("shop", testPort("http", 8080, 0))
	s := start(t, gates, ingress, service, node, podsOf("http", port))
	require.Eventually(t, func() bool { return len(s.Groups()) == 1 }, 5*time.Second, 5*time.Millisecond)
	group := s.Groups()[0].Name

	ctx := t.Context()
	pods := s.client.CoreV1().Pods("prod-app")
	_, err := pods.Create(ctx, testPod("shop-a", group), metav1.CreateOptions{})
	require.NoError(t, err)
	starting := testPod("shop-b", group)
	starting.Status.Conditions = nil
	_, err = pods.Create(ctx, starting, metav1.CreateOptions{})
	require.NoError(t, err)
	s.setPods(t, podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", node: "node-1"}, pod{name: "shop-b", ip: "127.0.0.2", node: "node-1"}))
	s.awaitHealth(t, "shop-a", "unhealthy")
	s.awaitGate(t, "shop-a", group, [3]string{"False", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"})
	require.Equal(t, "none", s.healthOf("shop-b"), "its own containers are not ready")

	answers.set(200)
	s.awaitGate(t, "shop-a", group, [3]string{"True"})
	require.Equal(t, [3]string{}, s.gate(t, "shop-b", group))

	ending := pod{name: "shop-a", ip: "127.0.0.1", node: "node-1", ready: true, ending: true}
	s.setPods(t, podsOf("http", port, ending))
	s.awaitHealth(t, "shop-a", "draining")
	require.Equal(t, [3]string{"True"}, s.gate(t, "shop-a", group), "who leaves is told nothing more")

	require.NoError(t, s.client.NetworkingV1().Ingresses("prod-app").Delete(ctx, "rest", metav1.DeleteOptions{}))
	s.awaitGate(t, "shop-b", group, [3]string{"True", "", "Target Group Binding is deleted"})
}

// statusSwitch answers with one status until it is set to another.
type statusSwitch struct{ code chan int }

func (s *statusSwitch) set(code int) {
	if s.code == nil {
		s.code = make(chan int, 1)
	}
	select {
	case <-s.code:
	default:
	}
	s.code <- code
}

func (s *statusSwitch) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	code := <-s.code
	s.code <- code
	w.WriteHeader(code)
}

func TestAGateThatCannotBeSetIsTriedAgain(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1")
	serveOn(t, doors[0], http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	gates, _ := withGates(t)
	client := fake.NewClientset(restIngress(toPods()), testService("shop", testPort("http", 8080, 0)),
		podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	var tries atomic.Int64
	client.PrependReactor("patch", "pods", func(kubetesting.Action) (bool, runtime.Object, error) {
		return tries.Add(1) == 1, nil, errors.New("the API server is busy")
	})
	s := startOn(t, client, gates)
	s.awaitHealth(t, "shop-a", "healthy")
	group := s.Groups()[0].Name
	_, err := s.client.CoreV1().Pods("prod-app").Create(t.Context(), testPod("shop-a", group), metav1.CreateOptions{})
	require.NoError(t, err)
	s.awaitGate(t, "shop-a", group, [3]string{"True"})
	require.Contains(t, s.log.String(), "the API server is busy")
}

func TestPodsGetAGateForEveryGroupTheyWillBeIn(t *testing.T) {
	gates, addr := withGates(t)
	svc := testService("shop", testPort("http", 8080, 30080), testPort("grpc-edge", 9091, 30091))
	svc.Spec.Selector = map[string]string{"app": "shop"}
	nodes := testIngress("nodes", nil, path{"Prefix", "/", "shop", 8080})
	grpc := testIngress("grpc", map[string]string{"target-type": "ip", "backend-protocol-version": "GRPC"}, path{"Prefix", "/x", "shop", 9091})
	s := start(t, gates, svc, nodes, grpc, restIngress(map[string]string{"target-type": "ip"}))
	require.Eventually(t, func() bool { return len(s.Groups()) == 3 }, 5*time.Second, 5*time.Millisecond)
	want := map[string]bool{}
	for _, g := range s.Groups() {
		if g.TargetType == IPTargets {
			want[gatePrefix+g.Name] = true
		}
	}
	require.Len(t, want, 2)

	// as the API server finds the hook and trusts it
	api := s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	require.Eventually(t, func() bool {
		_, err := api.Get(t.Context(), "aws-load-balancer-webhook", metav1.GetOptions{})
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	config, err := api.Get(t.Context(), "aws-load-balancer-webhook", metav1.GetOptions{})
	require.NoError(t, err)
	hook := config.Webhooks[0]
	require.Equal(t, "https://"+addr+"/mutate-v1-pod", *hook.ClientConfig.URL)
	require.Equal(t, map[string]string{"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"}, hook.NamespaceSelector.MatchLabels)
	require.EqualValues(t, "Ignore", *hook.FailurePolicy)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(hook.ClientConfig.CABundle))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	review := func(p *corev1.Pod) []corev1.PodReadinessGate {
		raw, err := json.Marshal(p)
		require.NoError(t, err)
		body, err := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "7",
			Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Namespace: p.Namespace, Object: runtime.RawExtension{Raw: raw}}})
		require.NoError(t, err)
		res, err := (&http.Client{Transport: transport}).Post(*hook.ClientConfig.URL, "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		var out admissionv1.AdmissionReview
		require.NoError(t, json.Unmarshal(answer, &out))
		require.True(t, out.Response.Allowed)
		require.EqualValues(t, "7", out.Response.UID)
		if out.Response.Patch == nil {
			return nil
		}
		var ops []struct {
			Op, Path string
			Value    []corev1.PodReadinessGate
		}
		require.NoError(t, json.Unmarshal(out.Response.Patch, &ops))
		require.Len(t, ops, 1)
		require.Equal(t, []string{"add", "/spec/readinessGates"}, []string{ops[0].Op, ops[0].Path})
		return ops[0].Value
	}
	for _, c := range []struct {
		name string
		edit func(*corev1.Pod)
		want int
	}{
		{"a pod of the Service", func(*corev1.Pod) {}, 2},
		{"a pod with a gate of its own keeps it", func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "own"}}
		}, 3},
		{"a pod of another Service", func(p *corev1.Pod) { p.Labels["app"] = "other" }, 0},
		{"a pod of another namespace", func(p *corev1.Pod) { p.Namespace = "default" }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := testPod("", "")
			c.edit(p)
			got := review(p)
			require.Len(t, got, c.want)
			found := 0
			for _, g := range got {
				if want[string(g.ConditionType)] {
					found++
				}
			}
			if c.want > 0 {
				require.Equal(t, 2, found)
			}
			p.Spec.ReadinessGates = got
			if c.want > 0 {
				require.Nil(t, review(p), "once is enough")
			}
		})
	}
	res, err := (&http.Client{Transport: transport}).Post(*hook.ClientConfig.URL, "application/json", bytes.NewReader([]byte("{")))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 400, res.StatusCode)
}

func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"request":{"uid":"1","kind":{"kind":"Pod"},"object":{"spec":{"readinessGates":[{"conditionType":"x"}]}}}}`))
	f.Add([]byte(`{"request":{"kind":{"kind":"Pod"},"object":[]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var review admissionv1.AdmissionReview
		if json.Unmarshal(body, &review) != nil || review.Request == nil {
			return
		}
		h := &gateHook{table: newTable(owner{}, 0, nil)}
		if answer := h.review(review.Request); !answer.Allowed || answer.Patch != nil {
			t.Fatalf("%+v", answer)
		}
	})
}

package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/harness/agent/sender"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a cluster whose pods are agents in this process, reached over loopback.
type rig struct {
	t      *testing.T
	api    *fake.Clientset
	proxy  bool         // pods get one
	absent map[int]bool // indices whose pods do not run
	cut    func() int   // after how many bytes a connection breaks; nil: never
	shop   *httptest.Server

	mu      sync.Mutex
	pods    map[string]*pod
	removed int
	all     []results.Request // that came from agents
	warned  []string
	marks   []phaseMark
}

type phaseMark struct {
	at   int64
	name string
}

// pod is one agent.
type pod struct {
	addr   string
	kill   context.CancelFunc
	ended  chan error
	gone   bool // not to be reached any more
	conns  []net.Conn
	paused chan struct{} // closed when dialling may go on; nil: it may
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, api: fake.NewClientset(), absent: map[int]bool{}, pods: map[string]*pod{}}
	r.shop = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(shopapi.PodHeader, "shop-1")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(r.shop.Close)
	r.api.PrependReactor("create", "jobs", func(a k8stesting.Action) (bool, runtime.Object, error) {
		r.runJob(a.(k8stesting.CreateAction).GetObject().(*batchv1.Job))
		return false, nil, nil
	})
	t.Cleanup(r.end)
	return r
}

// runJob does what Kubernetes does with an indexed Job.
func (r *rig) runJob(j *batchv1.Job) {
	// not by the client, which is in the middle of a call
	found, err := r.api.Tracker().Get(corev1.SchemeGroupVersion.WithResource("configmaps"), j.Namespace, j.Name)
	require.NoError(r.t, err)
	plan := found.(*corev1.ConfigMap)
	for index := range int(*j.Spec.Completions) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%d", j.Name, index), Namespace: j.Namespace, Labels: j.Spec.Template.Labels,
			Annotations: map[string]string{batchv1.JobCompletionIndexAnnotation: fmt.Sprint(index)},
		}, Spec: *j.Spec.Template.Spec.DeepCopy()}
		p.Spec.NodeName = fmt.Sprintf("node-%d", index%2)
		if r.proxy {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "linkerd-proxy"})
		}
		p.Status.Phase = corev1.PodPending
		if !r.absent[index] {
			p.Status.Phase = corev1.PodRunning
			r.runAgent(p.Name, index, []byte(plan.Data[planFile]))
		}
		require.NoError(r.t, r.api.Tracker().Add(p))
	}
}

func (r *rig) runAgent(name string, index int, raw []byte) {
	plan, err := wire.ReadPlan(raw, index)
	require.NoError(r.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	ctx, kill := context.WithCancel(context.WithoutCancel(r.t.Context()))
	p := &pod{addr: l.Addr().String(), kill: kill, ended: make(chan error, 1)}
	spool := filepath.Join(r.t.TempDir(), "spool")
	go func() {
		p.ended <- sender.Serve(ctx, l, sender.Options{Plan: plan, Pod: name, Spool: spool, Patience: time.Minute, Log: slog.New(slog.DiscardHandler)})
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[name] = p
}

// dial is what forwarding a port to a pod comes to.
func (r *rig) dial(ctx context.Context, _, name string, _ int) (net.Conn, error) {
	r.mu.Lock()
	p := r.pods[name]
	paused := p.paused
	gone := p.gone
	r.mu.Unlock()
	if paused != nil {
		select {
		case <-paused:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if gone {
		return nil, errors.New("no route to the pod")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.conns = append(p.conns, conn)
	if r.cut != nil {
		conn = &brittle{Conn: conn, left: r.cut()}
	}
	return conn, nil
}

// brittle is a connection that breaks after so many bytes were read.
type brittle struct {
	net.Conn
	left int
}

func (b *brittle) Read(p []byte) (int, error) {
	if b.left <= 0 {
		b.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// killPod takes a pod away at once, with what it had not told.
func (r *rig) killPod(name string) {
	r.sever(name)
	p, err := r.api.CoreV1().Pods(Namespace).Get(r.t.Context(), name, metav1.GetOptions{})
	require.NoError(r.t, err)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: container, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}},
	}}
	_, err = r.api.CoreV1().Pods(Namespace).UpdateStatus(r.t.Context(), p, metav1.UpdateOptions{})
	require.NoError(r.t, err)
	r.pods[name].kill()
}

// sever makes a pod unreachable.
func (r *rig) sever(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pods[name]
	p.gone = true
	for _, c := range p.conns {
		c.Close()
	}
}

func (r *rig) removeNamespace(ctx context.Context, name string) error {
	r.mu.Lock()
	r.removed++
	r.mu.Unlock()
	err := r.api.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && strings.Contains(err.Error(), "not found") {
		return nil
	}
	return err
}

func (r *rig) end() {
	for _, p := range r.pods {
		p.kill()
		<-p.ended
		for _, c := range p.conns {
			c.Close()
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func (r *rig) phaseAt(at int64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := ""
	for _, m := range r.marks {
		if m.at <= at {
			name = m.name
		}
	}
	return name
}

// enter notes a phase as the harness does.
func (r *rig) enter(name string) func(int64) {
	return func(at int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.marks = append(r.marks, phaseMark{at, name})
	}
}

func (r *rig) addr() string { return strings.TrimPrefix(r.shop.URL, "http://") }

// fleet makes agents that share 200 requests a second.
func (r *rig) fleet(groups ...scenarios.Agents) *Fleet {
	f, err := New(Options{
		Cluster: Cluster{Clientset: r.api, Dial: r.dial, RemoveNamespace: r.removeNamespace},
		Traffic: scenarios.Traffic{
			Shape: shape.Constant(200), ShapeText: "{constant: 200}", CompressTo: time.Minute, Timeout: 2 * time.Second, MaxLate: 500 * time.Millisecond,
			Mix: map[string]int{"browse": 3, "customer": 1}, Agents: groups,
		},
		Seed: 5000, Phase: "first", Run: "run-1", Image: "agent:1", HTTP: r.addr(), GRPC: "127.0.0.1:1",
		Service: func(string) string { return "127.0.0.1:1" },
		Begin:   time.Now().Add(-time.Minute), PhaseAt: r.phaseAt,
		Sink: func(q results.Request) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.all = append(r.all, q)
		},
		Warn: func(what, detail string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warned = append(r.warned, what+": "+detail)
		},
		Log:   slog.New(slog.DiscardHandler),
		Ready: 10 * time.Second, Patience: 2 * time.Second, Silence: 5 * time.Second, Lead: 500 * time.Millisecond, Poll: 20 * time.Millisecond,
	})
	require.NoError(r.t, err)
	return f
}

// due are the arrivals of the run's own traffic from its begin to its end.
func (f *Fleet) due(t *testing.T) (all []traffic.Due) {
	t.Helper()
	line := wire.Timeline{Scales: f.scales}
	o := traffic.Options{Traffic: f.Traffic, Seed: f.Seed, Begin: f.Began, Began: f.Began, ScaleAt: line.ScaleAt}
	require.NoError(t, traffic.EachDue(o, time.Duration(f.ended), func(d traffic.Due) { all = append(all, d) }))
	return all
}

func decodePlan(t *testing.T, c *corev1.ConfigMap) (p wire.Plan) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(c.Data[planFile]), &p))
	return p
}

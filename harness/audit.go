package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

const (
	vaultContainer = "vault"
	auditLooks     = time.Second // between two looks for a pod to read from
	auditLine      = 1 << 20     // bytes of an entry at the most
	whoPatience    = 2 * time.Second
	mostAddresses  = 256 // whose names are kept
)

// auditTail reads the log of Vault's pod, which its audit device writes to, while
// the run goes on: a pod's log goes with the pod.
type auditTail struct {
	client kubernetes.Interface
	book   *probes.AuditBook

	pod    types.UID // that was read last
	last   time.Time // its last entry
	broken bool      // its log broke off before its end
}

// run reads until ctx ends, of every pod that Vault has.
func (t *auditTail) run(ctx context.Context) {
	for {
		t.look(ctx)
		if pause.For(ctx, auditLooks) != nil {
			return
		}
	}
}

func (t *auditTail) look(ctx context.Context) {
	pod, err := t.client.CoreV1().Pods(probes.VaultNamespace).Get(ctx, probes.VaultPod, metav1.GetOptions{})
	if err != nil || !begun(pod) {
		return // it is not there yet, or was taken away; the next look tells
	}
	o := &corev1.PodLogOptions{Container: vaultContainer, Follow: true}
	switch {
	case t.pod != pod.UID:
		if t.broken {
			t.book.Miss("the log of a pod of Vault broke off, and the pod was gone before it could be read again")
		}
		t.pod, t.last = pod.UID, time.Time{}
	case !t.last.IsZero():
		since := metav1.NewTime(t.last.Add(-time.Second)) // what is read again counts once
		o.SinceTime = &since
	}
	log, err := t.client.CoreV1().Pods(probes.VaultNamespace).GetLogs(probes.VaultPod, o).Stream(ctx)
	if err == nil {
		err = t.read(log)
	}
	t.broken = err != nil && !apierrors.IsNotFound(err)
}

// begun tells whether a pod's container has written anything yet.
func begun(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == vaultContainer {
			return s.State.Running != nil || s.State.Terminated != nil
		}
	}
	return false
}

// read takes the log to its end.
func (t *auditTail) read(log io.ReadCloser) error {
	defer log.Close()
	lines := bufio.NewReaderSize(log, auditLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			t.book.Miss(fmt.Sprintf("a line is longer than %d bytes", auditLine))
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = lines.ReadSlice('\n')
			}
			line = nil
		}
		if at, ok := t.book.Take(line); ok {
			t.last = at
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// podNames finds the pods that addresses belong to, for as many as are asked for.
func podNames(ctx context.Context, client kubernetes.Interface) func(address string) string {
	var mu sync.Mutex
	known := map[string]string{}
	return func(address string) string {
		mu.Lock()
		defer mu.Unlock()
		if name, ok := known[address]; ok || address == "" || len(known) >= mostAddresses {
			return name
		}
		asking, cancel := context.WithTimeout(ctx, whoPatience)
		defer cancel()
		pods, err := client.CoreV1().Pods(metav1.NamespaceAll).List(asking, metav1.ListOptions{FieldSelector: "status.podIP=" + address})
		known[address] = ""
		if err == nil && len(pods.Items) == 1 { // nodes' pods share an address
			known[address] = pods.Items[0].Namespace + "/" + pods.Items[0].Name
		}
		return known[address]
	}
}

// watchUse begins to read Vault's audit log and to ask the API server how webhooks
// are called. What it starts ends with ctx and is then done with.
func (r *rehearsal) watchUse(ctx context.Context, asking *sync.WaitGroup) {
	r.webhooks = probes.NewWebhookWatch(r.kube.APIServerMetrics, webhookInterval, r.record.now, r.record.event)
	asking.Go(func() { r.webhooks.Run(ctx) })
	if !installs(r.Scenario, "vault") {
		return
	}
	asking.Go(func() { r.seal.Run(ctx) })
	r.audit = probes.NewAuditBook(r.record.at, r.record.now, r.record.eventAt, podNames(ctx, r.kube.Clientset))
	tail := &auditTail{client: r.kube.Clientset, book: r.audit}
	asking.Go(func() { tail.run(ctx) })
}

// webhookInterval is how often the API server is asked how webhooks are called:
// its metrics are megabytes.
const webhookInterval = 10 * time.Second

// observeUse tells how webhooks were called in a phase.
func (r *rehearsal) observeUse(ctx context.Context, phase string) error {
	return r.probe(ctx, results.ProbeWebhooks, func(ctx context.Context) (any, error) {
		return r.webhooks.Cut(ctx, phase)
	})
}

// observeAudit is what Vault's audit log has told. Values that are not hashed are
// worth a warning of their own.
func (r *rehearsal) observeAudit(context.Context) (any, error) {
	seen := r.audit.Seen()
	if seen.Clear > 0 {
		r.record.Warn("vault audit", fmt.Sprintf("%d entries of Vault's audit log hold a token or a secret that is not hashed", seen.Clear))
	}
	return seen, nil
}

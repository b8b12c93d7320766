package harness

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/agent/wire"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

//go:embed capture.yaml.tmpl
var captureManifest string

const (
	captureNamespace = "meshsim-capture"
	captureName      = "capture"
	captureEvery     = 2 * time.Second  // between two snapshots of a node
	captureLag       = 10 * time.Second // that a snapshot may need to get here
	captureKept      = 15 * time.Second // that a record covers at the most
	captureLooks     = 3 * time.Second  // between two looks for pods to listen to
	capturePatience  = 2 * time.Minute  // until every node tells
	captureLine      = 8 << 20          // bytes of a snapshot at the most
)

// capture follows the wire on every node while traffic flows.
type capture struct {
	kube    *kube.Client
	book    *probes.WireBook
	now     func() int64 // nanoseconds since the run's start
	nodes   []string
	trouble func(what, detail string)

	listeners sync.WaitGroup
	mu        sync.Mutex
	last      map[string]time.Time // of each pod: the last snapshot's own time
	listening map[string]bool
	told      map[string]bool // nodes
	flaws     map[string]flaw // by node: what was last wrong with its capture
	restarts  map[string]int32
	silent    map[string]bool // nodes that the last record lacks
}

// captureArgs are those of every node's agent. Where a node does not say which
// network its pods have, everything is followed, and told apart here.
func captureArgs(nodes []corev1.Node, planted map[string][]byte) []string {
	args := []string{"--every=" + captureEvery.String()}
	var pods, own []string
	known := true
	for i := range nodes {
		found := false
		for _, cidr := range append([]string{nodes[i].Spec.PodCIDR}, nodes[i].Spec.PodCIDRs...) {
			if p, err := netip.ParsePrefix(cidr); err == nil && p.Addr().Is4() && !found {
				pods, found = append(pods, p.String()), true
			}
		}
		known = known && found
		for _, a := range nodes[i].Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil && addr.Is4() {
				own = append(own, addr.String())
			}
		}
	}
	if known {
		args = append(args, "--pods="+strings.Join(pods, ","), "--nodes="+strings.Join(own, ","))
	}
	for name, b := range planted {
		args = append(args, "--needle="+wire.Needle{Name: name, Bytes: b}.String())
	}
	return args
}

// begin raises the captures and waits until each node has told something. It goes
// on with some of them alone: what these see to be readable is so. What it starts
// ends with ctx.
func (c *capture) begin(ctx context.Context, image string, args []string) error {
	t, err := template.New("capture").Parse(captureManifest)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, map[string]any{"Namespace": captureNamespace, "Image": image, "Args": args}); err != nil {
		return err
	}
	if err := removeCapture(ctx, c.kube); err != nil {
		return err
	}
	if err := c.kube.Apply(ctx, text.Bytes(), captureNamespace); err != nil {
		return fmt.Errorf("raise the captures: %w", err)
	}
	c.forget()
	c.listeners.Go(func() { c.listen(ctx) })
	return c.await(ctx, capturePatience)
}

// listen finds the captures' pods, also those that come in the place of others.
func (c *capture) listen(ctx context.Context) {
	for {
		pods, err := c.kube.Clientset.CoreV1().Pods(captureNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + captureName})
		if err != nil && ctx.Err() == nil {
			c.trouble("capture", fmt.Sprintf("its pods cannot be listed: %v", err))
		}
		if err == nil {
			c.look(pods.Items)
			for i := range pods.Items {
				c.hear(ctx, &pods.Items[i])
			}
		}
		if pause.For(ctx, captureLooks) != nil {
			return
		}
	}
}

// hear listens to one pod, unless somebody does.
func (c *capture) hear(ctx context.Context, pod *corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pod.Status.Phase != corev1.PodRunning || c.listening[pod.Name] {
		return
	}
	c.listening[pod.Name] = true
	c.listeners.Go(func() {
		if err := c.follow(ctx, pod.Name); err != nil && ctx.Err() == nil {
			c.trouble("capture", fmt.Sprintf("%s on %s: %v", pod.Name, pod.Spec.NodeName, err))
			c.flawed(pod.Spec.NodeName, err.Error())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.listening, pod.Name) // the next look begins again
	})
}

func (c *capture) follow(ctx context.Context, pod string) error {
	o := &corev1.PodLogOptions{Container: captureName, Follow: true}
	c.mu.Lock()
	if last, ok := c.last[pod]; ok {
		since := metav1.NewTime(last.Add(-time.Second))
		o.SinceTime = &since
	}
	c.mu.Unlock()
	log, err := c.kube.Clientset.CoreV1().Pods(captureNamespace).GetLogs(pod, o).Stream(ctx)
	if err != nil {
		return fmt.Errorf("read what it tells: %w", err)
	}
	defer log.Close()
	return c.read(pod, log)
}

// read takes a line each snapshot. What a broken connection made it read again
// is passed over.
func (c *capture) read(pod string, log io.Reader) error {
	lines := bufio.NewScanner(log)
	lines.Buffer(make([]byte, 0, 64<<10), captureLine)
	for lines.Scan() {
		var s wire.Snapshot
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return fmt.Errorf("understand what it tells, %.200q: %w", lines.Text(), err)
		}
		c.mu.Lock()
		old := !s.At.After(c.last[pod])
		if !old {
			c.last[pod], c.told[s.Node] = s.At, true
		}
		c.mu.Unlock()
		if !old {
			c.book.Add(c.now(), s)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read what it tells: %w", err)
	}
	return nil
}

// end waits for those that listen, whose context has ended, and takes the
// captures away; it outlives ctx.
func (c *capture) end(ctx context.Context) error {
	c.listeners.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return deleteCapture(ctx, c.kube)
}

func deleteCapture(ctx context.Context, client *kube.Client) error {
	err := client.Clientset.CoreV1().Namespaces().Delete(ctx, captureNamespace, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the captures: %w", err)
	}
	return nil
}

// removeCapture takes away what an earlier run left, and waits for that.
func removeCapture(ctx context.Context, client *kube.Client) error {
	if err := deleteCapture(ctx, client); err != nil {
		return err
	}
	return client.WaitGone(ctx, "namespace "+captureNamespace, func(ctx context.Context) error {
		_, err := client.Clientset.CoreV1().Namespaces().Get(ctx, captureNamespace, metav1.GetOptions{})
		return err
	})
}

// tell records the slices that have ended.
func (c *capture) tell(r *recorder, now int64) error {
	for _, slice := range c.book.Told(now, captureEvery+captureLag) {
		c.explain(&slice)
		if err := r.Probe(results.ProbeWire, slice); err != nil {
			return err
		}
	}
	return nil
}

//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/call"
)

// anchorScenes change what the whole mesh trusts.
func anchorScenes() []scene {
	return []scene{{name: "anchors", rows: []row{{
		id: "I1", says: "An anchor can be changed without a failed call by a bundle of both; dropping the old one too early breaks calls",
		expected: "old+new, restarts, new issuer: 0 failed; old dropped while a client's leaf is of it: its calls fail; after its restart answered",
		within:   12 * time.Minute, check: changeAnchor,
	}}}}
}

func changeAnchor(ctx context.Context, l *lab) (string, error) {
	var pair [2]struct{ root, issuer *authority }
	for i, name := range []string{"old root", "new root"} {
		var err error
		if pair[i].root, err = newAnchor(name); err != nil {
			return "", err
		}
		if pair[i].issuer, err = pair[i].root.issuer("P-256", lasting(12*time.Hour)); err != nil {
			return "", err
		}
	}
	before, after := pair[0], pair[1]
	if err := l.trust(ctx, before.issuer, before.root); err != nil {
		return "", err
	}
	web := l.server("web", guarded(authenticated), careful)
	two := int32(2)
	web.Spec.Replicas = &two
	if err := l.up(ctx, web, l.client("early", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	seen, err := l.withBothAnchors(ctx, before.root, after.root, after.issuer)
	if err != nil {
		return seen, err
	}
	text, err := l.withoutOldAnchor(ctx, after.root)
	return seen + "; " + text, err
}

// withBothAnchors is the careful half, under load. A data plane is restarted
// between the bundle and the new issuer, and so the client is another then.
func (l *lab) withBothAnchors(ctx context.Context, before, after, issuer *authority) (string, error) {
	bundled, err := l.during(ctx, "early", 120*time.Second, func() error {
		if err := l.upgrade(ctx, trusting(before, after)); err != nil {
			return err
		}
		return l.restart(ctx, "web")
	})
	seen := "bundle of both: " + bundled.String()
	if err != nil {
		return seen, err
	}
	if err := l.up(ctx, l.client("late", meshed), l.client("steady", meshed)); err != nil {
		return seen, err
	}
	issued, err := l.during(ctx, "late", 150*time.Second, func() error {
		l.began = time.Now()
		if err := l.putIssuer(ctx, issuer, after.certPEM()); err != nil {
			return err
		}
		if _, err := l.awaitEvent(ctx, stack.NamespaceMesh, "IssuerUpdated", "", kubeletPatience); err != nil {
			return err
		}
		return l.restart(ctx, "web")
	})
	seen += "; new issuer: " + issued.String()
	if err != nil {
		return seen, err
	}
	s, err := l.leafOf(ctx, "stranger", "web")
	if err == nil && !issuer.signed(s.chain[0]) {
		err = errors.New("the server's leaf is not the new issuer's")
	}
	return seen, err
}

// withoutOldAnchor drops the old anchor while the client steady still holds a
// leaf of it.
func (l *lab) withoutOldAnchor(ctx context.Context, after *authority) (string, error) {
	if err := l.upgrade(ctx, trusting(after)); err != nil {
		return "", err
	}
	if err := l.restart(ctx, "web"); err != nil {
		return "", err
	}
	o := call.Options{Target: at("http", "web", portHTTP, "/"), Count: 5, Fresh: true}
	broken, err := l.call(ctx, "steady", o)
	if err != nil {
		return "", err
	}
	seen := "old anchor dropped: " + broken.String()
	if err := broken.all(failing); err != nil {
		return seen, err
	}
	gone := int64(0)
	if err := l.kube.Clientset.CoreV1().Pods(l.ns).Delete(ctx, "steady", metav1.DeleteOptions{GracePeriodSeconds: &gone}); err != nil {
		return seen, err
	}
	err = l.kube.WaitGone(ctx, "pod steady", func(ctx context.Context) error {
		_, err := l.getPod(ctx, "steady")
		return err
	})
	if err != nil {
		return seen, err
	}
	if err := l.up(ctx, l.client("steady", meshed)); err != nil {
		return seen, err
	}
	again, err := l.expect(ctx, "steady", o, answered)
	return seen + "; restarted: " + again.String(), err
}

// planePods names the pods of a component, with their UIDs.
func (w *world) planePods(ctx context.Context, component string) (string, error) {
	list, err := w.kube.Clientset.CoreV1().Pods(stack.NamespaceMesh).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=" + component})
	if err != nil {
		return "", err
	}
	var all []string
	for _, p := range list.Items {
		all = append(all, fmt.Sprintf("%s (%s)", p.Name, p.UID))
	}
	slices.Sort(all)
	return strings.Join(all, ", "), nil
}

func sleepPastSecond(ctx context.Context) error { return pause.For(ctx, 1100*time.Millisecond) }

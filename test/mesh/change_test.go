//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"meshsim.dev/meshsim/clusters/stack"
)

// plane upgrades the control plane to other values. When the scene is over it
// goes back to those of the start.
func (l *lab) plane(ctx context.Context, values map[string]any) error {
	l.later(func(ctx context.Context) error { return l.upgrade(ctx, nil) })
	return l.upgrade(ctx, values)
}

// upgrade installs the mesh with values over those of the suite's own, and
// waits until pods are injected again.
func (w *world) upgrade(ctx context.Context, values map[string]any) error {
	w.stack.Values = map[string]map[string]any{"mesh": values}
	defer func() { w.stack.Values = nil }()
	return w.install(ctx, "mesh")
}

// put does as upgrade, and waits for nothing.
func (w *world) put(ctx context.Context, values map[string]any) error {
	c, err := stack.ByName("mesh")
	if err != nil {
		return err
	}
	w.stack.Values = map[string]map[string]any{"mesh": values}
	defer func() { w.stack.Values = nil }()
	return c.Install(ctx, w.stack)
}

// absent scales a Deployment of the control plane to nothing, until the scene
// is over or back is called.
func (l *lab) absent(ctx context.Context, name string) (back func(context.Context) error, err error) {
	back = func(ctx context.Context) error {
		return errors.Join(l.scale(ctx, stack.NamespaceMesh, name, 1), l.kube.WaitRollout(ctx, "deployment", stack.NamespaceMesh, name))
	}
	l.later(back)
	if err := l.scale(ctx, stack.NamespaceMesh, name, 0); err != nil {
		return back, err
	}
	return back, l.kube.WaitGone(ctx, "the pods of "+name, func(ctx context.Context) error {
		d, err := l.kube.Clientset.AppsV1().Deployments(stack.NamespaceMesh).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := l.kube.Clientset.CoreV1().Pods(stack.NamespaceMesh).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
		if err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return apierrors.NewNotFound(corev1.Resource("pods"), name)
		}
		return nil
	})
}

var certificatesAPI = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}

// ownIssuer takes the issuer out of cert-manager's hands until the scene is
// over, so that a row can put its own in. The Secret stays.
func (l *lab) ownIssuer(ctx context.Context) error {
	l.later(func(ctx context.Context) error {
		err := l.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Delete(ctx, issuerName, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err := l.install(ctx, "issuer"); err != nil {
			return err
		}
		if err := l.upgrade(ctx, nil); err != nil {
			return err
		}
		return l.restartPlane(ctx, "linkerd-identity")
	})
	err := l.kube.Dynamic.Resource(certificatesAPI).Namespace(stack.NamespaceMesh).Delete(ctx, issuerName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

func (w *world) restartPlane(ctx context.Context, name string) error {
	if err := w.kube.Restart(ctx, "deployment", stack.NamespaceMesh, name); err != nil {
		return err
	}
	return w.kube.WaitRollout(ctx, "deployment", stack.NamespaceMesh, name)
}

// putIssuer writes an issuer into the Secret, with what its ca.crt is to say.
func (l *lab) putIssuer(ctx context.Context, issuer *authority, ca []byte) error {
	key, err := issuer.keyPEM()
	if err != nil {
		return err
	}
	if err := l.putTLS(ctx, issuerName, issuer.certPEM(), key, ca); err != nil {
		return err
	}
	return l.nudge(ctx, "identity")
}

// putTLS replaces what a Secret of the control plane holds.
func (l *lab) putTLS(ctx context.Context, name string, cert, key, ca []byte) error {
	secrets := l.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh)
	secret, err := secrets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	secret.Data = map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": ca}
	if _, err := secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write secret %s: %w", name, err)
	}
	return nil
}

// nudge changes an annotation of a component's pods: a kubelet looks at a
// pod's Secrets when the pod changes, and else only once a minute.
func (l *lab) nudge(ctx context.Context, component string) error {
	pods := l.kube.Clientset.CoreV1().Pods(stack.NamespaceMesh)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=" + component})
	if err != nil {
		return err
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"meshsim.dev/nudged":%q}}}`, time.Now().Format(time.RFC3339Nano))
	for _, p := range list.Items {
		if _, err := pods.Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

//go:build conformance

package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/k8s/resources"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/test/mesh/report"
)

// world is the cluster with the mesh on it, and what is written down of it.
type world struct {
	kube      *kube.Client
	resources *resources.Resources
	stack     *stack.Env
	mesh      string // linkerd or fakemesh
	image     string // of the agent
	chosen    *regexp.Regexp
	book      *report.Report
}

// newWorld installs what a mesh stands on, and the mesh.
func newWorld(ctx context.Context, cluster *kind.Cluster, cfg *envconf.Config, mesh string, chosen *regexp.Regexp) (*world, error) {
	client, err := kube.New(cluster.Kubeconfig)
	if err != nil {
		return nil, err
	}
	dir, err := cache.Default()
	if err != nil {
		return nil, err
	}
	images, err := bundle.Open(dir, sourceDir)
	if err != nil {
		return nil, err
	}
	agent, err := images.Image("agent")
	if err != nil {
		return nil, err
	}
	w := &world{
		kube: client, resources: cfg.Client().Resources(), mesh: mesh, image: agent.Ref, chosen: chosen, book: &report.Report{},
		stack: &stack.Env{
			Kube: client, Images: images, Fit: cluster.Fit, KMSEndpoint: cluster.KMSEndpoint, Mesh: mesh, Kubeconfig: cluster.Kubeconfig,
			Log: slog.New(slog.DiscardHandler), Progress: progress.New(os.Stderr),
		},
	}
	if err := w.clearOther(ctx); err != nil {
		return nil, err
	}
	if err := w.clearLeftovers(ctx); err != nil {
		return nil, fmt.Errorf("clear what an earlier run left: %w", err)
	}
	for _, name := range []string{"cert-manager", "vault", "issuer", "mesh"} {
		if err := w.install(ctx, name); err != nil {
			return nil, err
		}
	}
	return w, w.describe(ctx)
}

// sourceDir is the checkout, seen from the folder that tests run in.
const sourceDir = "../.."

// clearOther removes the other mesh from a cluster that stood: both bear the
// same names.
func (w *world) clearOther(ctx context.Context) error {
	d, err := w.kube.Clientset.AppsV1().Deployments(stack.NamespaceMesh).Get(ctx, "linkerd-identity", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	standing := stack.MeshLinkerd
	if d.Labels["app.kubernetes.io/part-of"] == stack.MeshStandIn {
		standing = stack.MeshStandIn
	}
	if standing == w.mesh {
		return nil
	}
	c, err := stack.ByName("mesh")
	if err != nil {
		return err
	}
	return c.Remove(ctx, w.stack)
}

// clearLeftovers removes what a run that was killed left behind: the scene it
// was at, and an issuer of its own, which cert-manager would keep.
func (w *world) clearLeftovers(ctx context.Context) error {
	namespaces := w.kube.Clientset.CoreV1().Namespaces()
	list, err := namespaces.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, ns := range list.Items {
		if !strings.HasPrefix(ns.Name, namespacePrefix) {
			continue
		}
		if err := namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err = w.kube.Dynamic.Resource(certificatesAPI).Namespace(stack.NamespaceMesh).Get(ctx, issuerName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	err = w.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Delete(ctx, issuerName, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// install puts a component on the cluster, or brings it back to how it was
// first installed, and waits until it works.
func (w *world) install(ctx context.Context, name string) error {
	c, err := stack.ByName(name)
	if err != nil {
		return err
	}
	if err := c.Install(ctx, w.stack); err != nil {
		return err
	}
	return c.Ready(ctx, w.stack)
}

// describe writes down what the rows were asked of.
func (w *world) describe(ctx context.Context) error {
	version, err := w.kube.Clientset.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("ask for the cluster's version: %w", err)
	}
	pod, err := w.dryRun(ctx, "default", &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "version", Annotations: map[string]string{annotationInject: "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: w.image}}},
	})
	if err != nil {
		return fmt.Errorf("ask for the mesh's version: %w", err)
	}
	w.book.Facts = []report.Fact{
		{Name: "mesh", Value: w.mesh + " " + pod.Annotations["linkerd.io/proxy-version"]},
		{Name: "Kubernetes", Value: version.GitVersion + ", topology ci"},
		{Name: "run", Value: time.Now().UTC().Format(time.DateOnly)},
	}
	return nil
}

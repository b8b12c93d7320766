package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"meshsim.dev/meshsim/clusters/kube"
)

// Remove takes the mesh away, with everything of it across the cluster.
// Proxies in pods that still run go on until the pods are made anew.
//
// What goes wrong with one part keeps none of the others: a webhook that nobody
// answers any more would let no pod start (R7).
func (m mesh) Remove(ctx context.Context, env *Env) error {
	var failed []error
	for _, part := range []func(context.Context, *Env) error{
		m.removeReleases, removeMeshCertificates, removeWebhookConfigurations, m.removeCRDs, removeMeshLease, dropMeshLabels,
	} {
		failed = append(failed, part(ctx, env))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, name := range meshDeployments() {
		err := env.Kube.WaitGone(ctx, "deployment "+name, func(ctx context.Context) error {
			_, err := env.Kube.Clientset.AppsV1().Deployments(NamespaceMesh).Get(ctx, name, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (m mesh) removeReleases(ctx context.Context, env *Env) error {
	// While its validator is still there to be asked.
	text, err := scrapesManifest()
	if err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, text, ""); err != nil {
		return err
	}
	releases := []string{linkerdControlPlane}
	if !m.keepCRDs {
		releases = append(releases, linkerdCRDs)
	}
	for _, name := range releases {
		if err := env.helm().Drop(ctx, env, name, NamespaceMesh); err != nil {
			return err
		}
	}
	return nil
}

func removeMeshCertificates(ctx context.Context, env *Env) error {
	text, err := webhookManifest()
	if err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, text, ""); err != nil {
		return err
	}
	secrets := []string{webhookCASecret}
	for _, w := range webhooks() {
		secrets = append(secrets, w.Secret())
	}
	return deleteSecrets(ctx, env, NamespaceMesh, secrets...)
}

// removeWebhookConfigurations deletes what a release whose record was lost left
// behind: with a policy of Fail and nobody to answer, no pod could start (R7).
func removeWebhookConfigurations(ctx context.Context, env *Env) error {
	admission := env.Kube.Clientset.AdmissionregistrationV1()
	for _, w := range webhooks() {
		name := w.Service + "-webhook-config"
		for _, del := range []func(context.Context, string, metav1.DeleteOptions) error{
			admission.MutatingWebhookConfigurations().Delete, admission.ValidatingWebhookConfigurations().Delete,
		} {
			if err := ignoreNotFound(del(ctx, name, metav1.DeleteOptions{})); err != nil {
				return fmt.Errorf("delete webhook configuration %s: %w", name, err)
			}
		}
	}
	return nil
}

// removeCRDs deletes what CRDs of the mesh its releases left: Helm keeps those
// of a chart's crds folder. It waits, as a CRD is gone only after all its objects.
func (m mesh) removeCRDs(ctx context.Context, env *Env) error {
	if m.keepCRDs {
		return nil
	}
	crds := env.Kube.Dynamic.Resource(crdsAPI)
	list, err := crds.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list CRDs: %w", err)
	}
	var left []string
	for _, crd := range list.Items {
		if !ofMesh(&crd) {
			continue
		}
		left = append(left, crd.GetName())
		if err := ignoreNotFound(crds.Delete(ctx, crd.GetName(), metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("delete CRD %s: %w", crd.GetName(), err)
		}
	}
	return waitCRDsGone(ctx, env, left...)
}

// ofMesh says whether a CRD came with the mesh in this namespace.
func ofMesh(crd *unstructured.Unstructured) bool {
	owner := crd.GetAnnotations()
	byHelm := owner["meta.helm.sh/release-namespace"] == NamespaceMesh &&
		slices.Contains([]string{linkerdCRDs, linkerdControlPlane}, owner["meta.helm.sh/release-name"])
	return byHelm || crd.GetLabels()["linkerd.io/control-plane-ns"] == NamespaceMesh
}

// meshLease is what the policy controllers elect a writer by, while they run.
const meshLease = "policy-controller-write"

func removeMeshLease(ctx context.Context, env *Env) error {
	err := env.Kube.Clientset.CoordinationV1().Leases(NamespaceMesh).Delete(ctx, meshLease, metav1.DeleteOptions{})
	if ignoreNotFound(err) != nil {
		return fmt.Errorf("delete lease %s: %w", meshLease, err)
	}
	return nil
}

// meshLabels are what a mesh asks of namespaces. Its own must not be asked
// about by its webhooks, or it could not start; nor may kube-system, or a node
// could not come back while the injector is away (R7).
func meshLabels() map[string]map[string]string {
	return map[string]map[string]string{
		NamespaceMesh: {
			"linkerd.io/is-control-plane": "true",
			"linkerd.io/control-plane-ns": NamespaceMesh,
			admissionLabel:                "disabled",
		},
		namespaceSystem: {admissionLabel: "disabled"},
	}
}

// labelledBy remembers at a namespace which labels were not there before.
const labelledBy = "meshsim.dev/mesh-labels"

func setMeshLabels(ctx context.Context, env *Env) error {
	for namespace, labels := range meshLabels() {
		ns, err := env.Kube.Clientset.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read namespace %s: %w", namespace, err)
		}
		ours, set := strings.Fields(ns.Annotations[labelledBy]), map[string]any{}
		for label, value := range labels {
			if _, there := ns.Labels[label]; !there {
				ours = append(ours, label)
			}
			set[label] = value
		}
		slices.Sort(ours)
		if err := patchNamespace(ctx, env, namespace, set, strings.Join(slices.Compact(ours), " ")); err != nil {
			return err
		}
	}
	return nil
}

// dropMeshLabels takes back the labels that setMeshLabels has added, and no others.
func dropMeshLabels(ctx context.Context, env *Env) error {
	for namespace := range meshLabels() {
		ns, err := env.Kube.Clientset.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read namespace %s: %w", namespace, err)
		}
		ours := strings.Fields(ns.Annotations[labelledBy])
		if len(ours) == 0 {
			continue
		}
		gone := map[string]any{}
		for _, label := range ours {
			gone[label] = nil
		}
		if err := patchNamespace(ctx, env, namespace, gone, nil); err != nil {
			return err
		}
	}
	return nil
}

// patchNamespace sets labels, or removes those that are nil. It merges: what
// ensureNamespace applies must not take them away again.
func patchNamespace(ctx context.Context, env *Env, namespace string, labels map[string]any, ours any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels": labels, "annotations": map[string]any{labelledBy: ours},
	}})
	if err != nil {
		return err
	}
	_, err = env.Kube.Clientset.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: kube.FieldManager})
	if err != nil {
		return fmt.Errorf("label namespace %s: %w", namespace, err)
	}
	return nil
}

package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/topology"
)

const (
	readyPoll    = 250 * time.Millisecond
	readyTimeout = 4 * time.Minute

	defaultClassAnnotation = "storageclass.kubernetes.io/is-default-class"
	// provisioner is the one that kind's node images bring.
	provisioner = "rancher.io/local-path"
)

// awaitNodes waits until every named node is ready, and returns them.
func awaitNodes(ctx context.Context, client kubernetes.Interface, names []string, timeout time.Duration) ([]corev1.Node, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errNotReady)
	defer cancel()
	lastErr := errors.New("nothing asked yet")
	for {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err == nil {
			waiting := notReady(list.Items, names)
			if len(waiting) == 0 {
				return list.Items, nil
			}
			err = fmt.Errorf("not ready: %s", strings.Join(waiting, ", "))
		}
		if ctx.Err() == nil {
			lastErr = err
		}
		if err := pause.For(ctx, readyPoll); err != nil {
			if errors.Is(err, errNotReady) {
				return nil, fault.NewEnvironment(fmt.Errorf("wait %s for the nodes: %w", timeout, lastErr), "")
			}
			return nil, err
		}
	}
}

var errNotReady = errors.New("the nodes are not ready in time")

// notReady lists the names that are missing or not ready.
func notReady(nodes []corev1.Node, names []string) []string {
	waiting := slices.Clone(names)
	for _, node := range nodes {
		if nodeReady(node) {
			waiting = slices.DeleteFunc(waiting, func(n string) bool { return n == node.Name })
		}
	}
	return waiting
}

func nodeReady(node corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// nodeAddress is the node's address on the nodes' network.
func nodeAddress(node corev1.Node) string {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// setStorageClasses makes the topology's classes, and takes the rank of default
// from every other, such as kind's own `standard`.
func setStorageClasses(ctx context.Context, client kubernetes.Interface, classes []topology.StorageClass) error {
	api := client.StorageV1().StorageClasses()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list storage classes: %w", err)
	}
	for _, class := range list.Items {
		ours := slices.ContainsFunc(classes, func(c topology.StorageClass) bool { return c.Name == class.Name })
		if ours || class.Annotations[defaultClassAnnotation] != "true" {
			continue
		}
		class.Annotations[defaultClassAnnotation] = "false"
		if _, err := api.Update(ctx, &class, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("change storage class %s: %w", class.Name, err)
		}
	}
	for _, c := range classes {
		if _, err := api.Create(ctx, storageClass(c), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make storage class %s: %w", c.Name, err)
		}
	}
	return nil
}

// storageClass behaves as EBS's do: a volume is made once its pod has a node,
// and goes with its claim.
func storageClass(c topology.StorageClass) *storagev1.StorageClass {
	wait, remove := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	class := &storagev1.StorageClass{
		ObjectMeta:        metav1.ObjectMeta{Name: c.Name, Annotations: map[string]string{defaultClassAnnotation: "false"}},
		Provisioner:       provisioner,
		VolumeBindingMode: &wait,
		ReclaimPolicy:     &remove,
	}
	if c.Default {
		class.Annotations[defaultClassAnnotation] = "true"
	}
	return class
}

package stack

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	meshInjector = "linkerd-proxy-injector" // Deployment
	meshConfig   = "linkerd-config"         // ConfigMap that the injector mounts
)

// injectorState is what the injector makes proxies by: the values that it
// reads, and the template of its own pods.
type injectorState struct {
	values   string
	template corev1.PodTemplateSpec
}

// readInjector is empty where there is no mesh yet.
func readInjector(ctx context.Context, env *Env) (injectorState, error) {
	config, err := env.Kube.Clientset.CoreV1().ConfigMaps(NamespaceMesh).Get(ctx, meshConfig, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return injectorState{}, nil
	}
	if err != nil {
		return injectorState{}, fmt.Errorf("read the mesh's values: %w", err)
	}
	injector, err := env.Kube.Clientset.AppsV1().Deployments(NamespaceMesh).Get(ctx, meshInjector, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return injectorState{}, nil
	}
	if err != nil {
		return injectorState{}, fmt.Errorf("read the injector: %w", err)
	}
	return injectorState{values: config.Data["values"], template: injector.Spec.Template}, nil
}

// renewInjector restarts the injector where an upgrade has changed the values
// and left its pods alone, as it does for what the control plane's own proxies
// do not follow: proxy.defaultInboundPolicy, proxy.waitBeforeExitSeconds. The
// values are a file in those pods that the kubelet renews a minute or so later,
// and whatever is rolled until then would get a proxy as before.
func renewInjector(ctx context.Context, env *Env, before injectorState) error {
	if before.values == "" {
		return nil
	}
	after, err := readInjector(ctx, env)
	if err != nil {
		return err
	}
	if after.values == before.values || !equality.Semantic.DeepEqual(after.template, before.template) {
		return nil
	}
	env.logger().Info("restart the injector, for its values have changed")
	return env.Kube.Restart(ctx, "deployment", NamespaceMesh, meshInjector)
}

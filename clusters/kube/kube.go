// Package kube is the project's way of speaking to a cluster: apply manifests,
// wait for rollouts, run a program in a pod, and reach Services and pods
// through the API server. It keeps to APIs that Kubernetes 1.24 serves, and to
// plain reads instead of informers, so that a new client and an old server agree.
package kube

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// FieldManager is the name under which meshsim applies fields.
const FieldManager = "meshsim"

// A rehearsal sends short bursts of small calls; client-go's defaults (5 a
// second) would make it wait for itself.
const (
	callsPerSecond = 50
	callBurst      = 100
)

// Client speaks to one cluster. It is safe for use by several goroutines.
type Client struct {
	Config    *rest.Config
	Clientset kubernetes.Interface
	Dynamic   dynamic.Interface
	Discovery discovery.CachedDiscoveryInterface
	Mapper    meta.ResettableRESTMapper

	poll time.Duration // between two looks at something that is waited for
}

// New reads the kubeconfig file at the path given and uses its current context.
func New(kubeconfig string) (*Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return ForConfig(cfg)
}

// ForConfig makes a client for a configuration that is already at hand.
func ForConfig(cfg *rest.Config) (*Client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = FieldManager
	cfg.QPS, cfg.Burst = callsPerSecond, callBurst
	// A warning for each deprecated API of an old cluster would only hide errors.
	cfg.WarningHandler = rest.NoWarnings{}
	clientset, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a dynamic Kubernetes client: %w", err)
	}
	cached := memory.NewMemCacheClient(clientset.Discovery())
	return &Client{
		Config:    cfg,
		Clientset: clientset,
		Dynamic:   dyn,
		Discovery: cached,
		Mapper:    restmapper.NewDeferredDiscoveryRESTMapper(cached),
		poll:      500 * time.Millisecond,
	}, nil
}

// ServiceGet asks a Service for a path through the API server's proxy. service
// is "name:port", or "https:name:port" for a TLS port.
func (c *Client) ServiceGet(ctx context.Context, namespace, service, path string, query url.Values) ([]byte, error) {
	return c.proxyGet(ctx, "services", namespace, service, path, query)
}

// PodGet asks a pod for a path through the API server's proxy. pod is
// "name:port", or "https:name:port" for a TLS port.
func (c *Client) PodGet(ctx context.Context, namespace, pod, path string) ([]byte, error) {
	return c.proxyGet(ctx, "pods", namespace, pod, path, nil)
}

// KubeletSummary asks a node's kubelet what its containers use, through the API
// server's proxy.
func (c *Client) KubeletSummary(ctx context.Context, node string) ([]byte, error) {
	return c.proxyGet(ctx, "nodes", "", node, "/stats/summary", nil)
}

// APIServerMetrics gives the API server's own metrics in Prometheus's text
// format: some megabytes. Of several API servers one answers.
func (c *Client) APIServerMetrics(ctx context.Context) (io.ReadCloser, error) {
	body, err := c.Clientset.Discovery().RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("get the API server's metrics: %w", err)
	}
	return body, nil
}

func (c *Client) proxyGet(ctx context.Context, resource, namespace, name, path string, query url.Values) ([]byte, error) {
	req := c.Clientset.CoreV1().RESTClient().Get().
		NamespaceIfScoped(namespace, namespace != "").Resource(resource).Name(name).SubResource("proxy").Suffix(path)
	for key, values := range query {
		for _, v := range values {
			req = req.Param(key, v)
		}
	}
	body, err := req.DoRaw(ctx)
	if err != nil {
		return body, fmt.Errorf("get %s from %s %s/%s: %w", path, strings.TrimSuffix(resource, "s"), namespace, name, err)
	}
	return body, nil
}

// Logs returns all that a container has written since it last started. An
// empty container name is the pod's only one.
func (c *Client) Logs(ctx context.Context, namespace, pod, container string) ([]byte, error) {
	stream, err := c.Clientset.CoreV1().Pods(namespace).
		GetLogs(pod, &corev1.PodLogOptions{Container: container}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("logs of %s/%s %s: %w", namespace, pod, container, err)
	}
	defer stream.Close()
	logs, err := io.ReadAll(stream)
	if err != nil {
		return logs, fmt.Errorf("logs of %s/%s %s: %w", namespace, pod, container, err)
	}
	return logs, nil
}

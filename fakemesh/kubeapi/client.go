// Package kubeapi is the little of the Kubernetes API that the stand-in uses.
// It takes client-go's REST client and caches but not its generated clientset:
// that would add ten megabytes to every proxy, which is the same program.
package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Client speaks to one API server.
type Client struct {
	core           *rest.RESTClient
	discovery      *rest.RESTClient
	authentication *rest.RESTClient
	apps           *rest.RESTClient
	batch          *rest.RESTClient
	policy         map[schema.GroupVersion]*rest.RESTClient // of Linkerd's API
	params         runtime.ParameterCodec
}

// InCluster uses the service account of the pod that this runs in.
func InCluster() (*Client, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read the pod's service account: %w", err)
	}
	return New(cfg)
}

// New makes a client for the API server that cfg names.
func New(cfg *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	add := []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, authenticationv1.AddToScheme, metav1.AddMetaToScheme, kinds.Register}
	for _, f := range add {
		if err := f(scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	for _, gv := range []schema.GroupVersion{appsV1, batchV1} {
		metav1.AddToGroupVersion(scheme, gv)
	}
	c := &Client{params: runtime.NewParameterCodec(scheme), policy: map[schema.GroupVersion]*rest.RESTClient{}}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	for gv, client := range map[schema.GroupVersion]**rest.RESTClient{
		corev1.SchemeGroupVersion:           &c.core,
		discoveryv1.SchemeGroupVersion:      &c.discovery,
		authenticationv1.SchemeGroupVersion: &c.authentication,
		appsV1:                              &c.apps,
		batchV1:                             &c.batch,
	} {
		made, err := clientFor(cfg, gv, codecs)
		if err != nil {
			return nil, err
		}
		*client = made
	}
	for _, gv := range []schema.GroupVersion{kinds.V1Alpha1, kinds.V1Beta1, kinds.V1Beta3, kinds.Gateway} {
		made, err := clientFor(cfg, gv, codecs)
		if err != nil {
			return nil, err
		}
		c.policy[gv] = made
	}
	return c, nil
}

func clientFor(cfg *rest.Config, gv schema.GroupVersion, codecs runtime.NegotiatedSerializer) (*rest.RESTClient, error) {
	own := rest.CopyConfig(cfg)
	own.GroupVersion = &gv
	own.APIPath = "/apis"
	if gv.Group == "" {
		own.APIPath = "/api"
	}
	own.NegotiatedSerializer = codecs
	own.QPS, own.Burst = 50, 100
	made, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", gv, err)
	}
	return made, nil
}

var (
	appsV1  = schema.GroupVersion{Group: "apps", Version: "v1"}
	batchV1 = schema.GroupVersion{Group: "batch", Version: "v1"}
)

// Services is a cache of every namespace's Services, as EndpointSlices and Pods
// are. The caller adds handlers and indexes and runs it.
func (c *Client) Services() cache.SharedIndexInformer {
	return c.informer(c.core, "services", &corev1.Service{})
}

// EndpointSlices is the cache of discovery.k8s.io/v1 EndpointSlices.
func (c *Client) EndpointSlices() cache.SharedIndexInformer {
	return c.informer(c.discovery, "endpointslices", &discoveryv1.EndpointSlice{})
}

// Pods is the cache of pods.
func (c *Client) Pods() cache.SharedIndexInformer {
	return c.informer(c.core, "pods", &corev1.Pod{})
}

// resync is rare: the watch tells of every change.
const resync = 10 * time.Minute

func (c *Client) informer(client *rest.RESTClient, resource string, of runtime.Object) cache.SharedIndexInformer {
	lw := cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	return cache.NewSharedIndexInformer(lw, of, resync, cache.Indexers{})
}

// TokenReview asks whether a token is good for the audience and whose it is.
func (c *Client) TokenReview(ctx context.Context, token, audience string) (username string, err error) {
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{audience}},
	}
	answer := &authenticationv1.TokenReview{}
	err = c.authentication.Post().Resource("tokenreviews").Body(review).Do(ctx).Into(answer)
	if err != nil {
		return "", fmt.Errorf("review a token: %w", err)
	}
	status := answer.Status
	if status.Error != "" {
		return "", fmt.Errorf("review a token: %s", status.Error)
	}
	if !status.Authenticated {
		return "", ErrUnauthenticated
	}
	for _, a := range status.Audiences {
		if a == audience {
			return status.User.Username, nil
		}
	}
	return "", ErrUnauthenticated
}

// ErrUnauthenticated means that the API server does not accept a token.
var ErrUnauthenticated = errors.New("the token is not valid for this audience")

// Namespace reads one namespace.
func (c *Client) Namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	ns := &corev1.Namespace{}
	if err := c.core.Get().Resource("namespaces").Name(name).Do(ctx).Into(ns); err != nil {
		return nil, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return ns, nil
}

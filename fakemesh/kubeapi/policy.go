package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Servers is the cache of policy.linkerd.io Servers, and so are the next ones
// those of the kinds that they are called after.
func (c *Client) Servers() cache.SharedIndexInformer {
	return c.informer(c.policy[kinds.V1Beta1], "servers", &kinds.Server{})
}

// ServerAuthorizations is their cache.
func (c *Client) ServerAuthorizations() cache.SharedIndexInformer {
	return c.informer(c.policy[kinds.V1Beta1], "serverauthorizations", &kinds.ServerAuthorization{})
}

// AuthorizationPolicies is their cache.
func (c *Client) AuthorizationPolicies() cache.SharedIndexInformer {
	return c.informer(c.policy[kinds.V1Alpha1], "authorizationpolicies", &kinds.AuthorizationPolicy{})
}

// MeshTLSAuthentications is their cache.
func (c *Client) MeshTLSAuthentications() cache.SharedIndexInformer {
	return c.informer(c.policy[kinds.V1Alpha1], "meshtlsauthentications", &kinds.MeshTLSAuthentication{})
}

// NetworkAuthentications is their cache.
func (c *Client) NetworkAuthentications() cache.SharedIndexInformer {
	return c.informer(c.policy[kinds.V1Alpha1], "networkauthentications", &kinds.NetworkAuthentication{})
}

// HTTPRoutes is the cache of a group's HTTPRoutes: kinds.V1Beta3 or kinds.Gateway.
func (c *Client) HTTPRoutes(gv schema.GroupVersion) cache.SharedIndexInformer {
	return c.informer(c.policy[gv], "httproutes", &kinds.HTTPRoute{})
}

// Serves says whether the API server has HTTPRoutes of a group at present.
func (c *Client) Serves(ctx context.Context, gv schema.GroupVersion) (bool, error) {
	list := &metav1.APIResourceList{}
	raw, err := c.policy[gv].Get().AbsPath("/apis", gv.Group, gv.Version).Do(ctx).Raw()
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, list)
	}
	if err != nil {
		return false, fmt.Errorf("ask for the kinds of %s: %w", gv, err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "httproutes" }), nil
}

// ServersOf reads the Servers of a namespace as they are now.
func (c *Client) ServersOf(ctx context.Context, namespace string) ([]kinds.Server, error) {
	list := &kinds.List[kinds.Server]{}
	if err := c.policy[kinds.V1Beta1].Get().Namespace(namespace).Resource("servers").Do(ctx).Into(list); err != nil {
		return nil, fmt.Errorf("read the Servers of namespace %s: %w", namespace, err)
	}
	return list.Items, nil
}

// WriteRouteStatus replaces an HTTPRoute's status. One that has gone is no error.
func (c *Client) WriteRouteStatus(ctx context.Context, gv schema.GroupVersion, namespace, name string, s kinds.HTTPRouteStatus) error {
	body, err := json.Marshal(map[string]any{"status": map[string]any{"parents": s.Parents}})
	if err != nil {
		return fmt.Errorf("encode the status of HTTPRoute %s/%s: %w", namespace, name, err)
	}
	err = c.policy[gv].Patch(types.MergePatchType).Namespace(namespace).Resource("httproutes").
		Name(name).SubResource("status").Body(body).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of HTTPRoute %s/%s: %w", namespace, name, err)
	}
	return nil
}

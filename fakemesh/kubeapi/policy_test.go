package kubeapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// policyAPI answers for the policy API's groups as a v1.24 server does.
type policyAPI struct {
	mu      sync.Mutex
	patches []string
}

func (a *policyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("sendInitialEvents") != "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	lists := map[string]string{
		"/apis/policy.linkerd.io/v1beta1/servers":                 `{"kind":"ServerList","apiVersion":"policy.linkerd.io/v1beta1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"web"},"spec":{"podSelector":{"matchLabels":{"app":"web"}},"port":"grpc","proxyProtocol":"gRPC"}}]}`,
		"/apis/policy.linkerd.io/v1beta1/serverauthorizations":    `{"kind":"ServerAuthorizationList","apiVersion":"policy.linkerd.io/v1beta1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"saz"},"spec":{"server":{"name":"web"},"client":{"unauthenticated":true}}}]}`,
		"/apis/policy.linkerd.io/v1alpha1/authorizationpolicies":  `{"kind":"AuthorizationPolicyList","apiVersion":"policy.linkerd.io/v1alpha1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"ap"},"spec":{"targetRef":{"kind":"Namespace","name":"prod"},"requiredAuthenticationRefs":[]}}]}`,
		"/apis/policy.linkerd.io/v1alpha1/meshtlsauthentications": `{"kind":"MeshTLSAuthenticationList","apiVersion":"policy.linkerd.io/v1alpha1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"ids"},"spec":{"identities":["*"]}}]}`,
		"/apis/policy.linkerd.io/v1alpha1/networkauthentications": `{"kind":"NetworkAuthenticationList","apiVersion":"policy.linkerd.io/v1alpha1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"nets"},"spec":{"networks":[{"cidr":"10.0.0.0/8"}]}}]}`,
		"/apis/policy.linkerd.io/v1beta3/httproutes":              `{"kind":"HTTPRouteList","apiVersion":"policy.linkerd.io/v1beta3","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"split"},"spec":{"parentRefs":[{"group":"core","kind":"Service","name":"web"}]},"status":{"parents":[{"controllerName":"x","parentRef":{"name":"web"}}]}}]}`,
		"/apis/policy.linkerd.io/v1beta1/namespaces/prod/servers": `{"kind":"ServerList","apiVersion":"policy.linkerd.io/v1beta1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"namespace":"prod","name":"now"},"spec":{"podSelector":{},"port":9090}}]}`,
		"/apis/policy.linkerd.io/v1beta3":                         `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"policy.linkerd.io/v1beta3","resources":[{"name":"httproutes","kind":"HTTPRoute","namespaced":true,"verbs":["list"],"singularName":""}]}`,
	}
	if text, ok := lists[r.URL.Path]; ok && r.Method == http.MethodGet {
		_, _ = io.WriteString(w, text)
		return
	}
	if r.Method == http.MethodPatch && r.URL.Path == "/apis/policy.linkerd.io/v1beta3/namespaces/prod/httproutes/split/status" {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.patches = append(a.patches, r.Header.Get("Content-Type")+" "+string(body))
		a.mu.Unlock()
		_, _ = io.WriteString(w, `{"kind":"HTTPRoute","apiVersion":"policy.linkerd.io/v1beta3","metadata":{"namespace":"prod","name":"split"},"spec":{}}`)
		return
	}
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
}

func servePolicy(t *testing.T) (*Client, *policyAPI) {
	t.Helper()
	a := &policyAPI{}
	server := httptest.NewServer(a)
	c, err := New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return c, a
}

func TestCachesOfThePolicyAPIFill(t *testing.T) {
	c, _ := servePolicy(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	informers := map[string]cache.SharedIndexInformer{
		"prod/web": c.Servers(), "prod/saz": c.ServerAuthorizations(), "prod/ap": c.AuthorizationPolicies(),
		"prod/ids": c.MeshTLSAuthentications(), "prod/nets": c.NetworkAuthentications(), "prod/split": c.HTTPRoutes(kinds.V1Beta3),
	}
	for name, informer := range informers {
		go informer.RunWithContext(ctx)
		require.Eventually(t, informer.HasSynced, 10*time.Second, 10*time.Millisecond, name)
		require.Equal(t, []string{name}, informer.GetStore().ListKeys())
	}
	srv, ok := informers["prod/web"].GetStore().List()[0].(*kinds.Server)
	require.True(t, ok)
	require.Equal(t, "grpc", srv.Spec.Port.StrVal)
	require.Equal(t, map[string]string{"app": "web"}, srv.Spec.PodSelector.MatchLabels)
	copied, ok := srv.DeepCopyObject().(*kinds.Server)
	require.True(t, ok)
	require.Equal(t, srv, copied)
	copied.Spec.PodSelector.MatchLabels["app"] = "other"
	require.Equal(t, "web", srv.Spec.PodSelector.MatchLabels["app"], "a copy shares nothing")
}

func TestAGroupIsServedOrIsNot(t *testing.T) {
	c, _ := servePolicy(t)
	served, err := c.Serves(t.Context(), kinds.V1Beta3)
	require.NoError(t, err)
	require.True(t, served)
	served, err = c.Serves(t.Context(), kinds.Gateway)
	require.NoError(t, err)
	require.False(t, served)
	_, err = c.Serves(cancelled(t), kinds.V1Beta3)
	require.Error(t, err, "not knowing is not the same as no")
}

func TestServersAreReadAsTheyAreNow(t *testing.T) {
	c, _ := servePolicy(t)
	list, err := c.ServersOf(t.Context(), "prod")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "now", list[0].Name)
	require.Equal(t, 9090, list[0].Spec.Port.IntValue())
	_, err = c.ServersOf(t.Context(), "dev")
	require.Error(t, err)
}

func TestAStatusIsPatchedWhereTheRouteIsStillThere(t *testing.T) {
	c, a := servePolicy(t)
	group, kind, namespace := "core", "Service", "prod"
	status := kinds.HTTPRouteStatus{Parents: []kinds.ParentStatus{{
		ControllerName: "us", ParentRef: kinds.ParentRef{Group: &group, Kind: &kind, Namespace: &namespace, Name: "web"},
		Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: metav1.Unix(0, 0)}},
	}}}
	require.NoError(t, c.WriteRouteStatus(t.Context(), kinds.V1Beta3, "prod", "split", status))
	require.Len(t, a.patches, 1)
	mediaType, body := a.patches[0][:len("application/merge-patch+json")], a.patches[0][len("application/merge-patch+json "):]
	require.Equal(t, "application/merge-patch+json", mediaType)
	var got struct{ Status kinds.HTTPRouteStatus }
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, "us", got.Status.Parents[0].ControllerName)
	require.Equal(t, "Accepted", got.Status.Parents[0].Conditions[0].Reason)
	require.NoError(t, c.WriteRouteStatus(t.Context(), kinds.V1Beta3, "prod", "gone", status))
	require.Error(t, c.WriteRouteStatus(cancelled(t), kinds.V1Beta3, "prod", "split", status))
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

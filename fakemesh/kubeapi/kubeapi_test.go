package kubeapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// api is as much of a v1.24 API server as the client asks for.
type api struct {
	mu     sync.Mutex
	events []corev1.Event
	asked  map[string]int
	watch  chan any
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.Path]++
	a.mu.Unlock()
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	if r.URL.Query().Get("watch") != "" {
		if r.URL.Query().Get("sendInitialEvents") != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure",
				Reason: metav1.StatusReasonInvalid, Code: 422, Message: "resourceVersionMatch is forbidden for watch",
			})
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-a.watchOf(r.URL.Path):
				_ = json.NewEncoder(w).Encode(e)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	list := metav1.ListMeta{ResourceVersion: "5"}
	switch r.Method + " " + r.URL.Path {
	case "GET /api/v1/pods":
		answer(corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, ListMeta: list, Items: []corev1.Pod{pod("web-1")}})
	case "GET /api/v1/services":
		answer(corev1.ServiceList{TypeMeta: metav1.TypeMeta{Kind: "ServiceList", APIVersion: "v1"}, ListMeta: list, Items: []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: "web"}}}})
	case "GET /apis/discovery.k8s.io/v1/endpointslices":
		answer(discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}, ListMeta: list, Items: []discoveryv1.EndpointSlice{{ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: "web-x"}}}})
	case "GET /api/v1/namespaces/prod-app":
		answer(corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "prod-app", Annotations: map[string]string{"linkerd.io/inject": "enabled"}}})
	case "GET /apis/apps/v1/namespaces/prod-app/replicasets/web-5d4f":
		yes := true
		answer(metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "u-d", Controller: &yes}}}})
	case "POST /apis/authentication.k8s.io/v1/tokenreviews":
		var review authenticationv1.TokenReview
		_ = json.NewDecoder(r.Body).Decode(&review)
		review.Status = tokenStatus(review.Spec.Token)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	case "POST /api/v1/namespaces/prod-app/events":
		var e corev1.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		a.mu.Lock()
		a.events = append(a.events, e)
		a.mu.Unlock()
		answer(e)
	default:
		http.NotFound(w, r)
	}
}

// watchOf is the channel of what happens to pods; nothing else changes.
func (a *api) watchOf(path string) <-chan any {
	if path == "/api/v1/pods" {
		return a.watch
	}
	return nil
}

func tokenStatus(token string) authenticationv1.TokenReviewStatus {
	user := authenticationv1.UserInfo{Username: "system:serviceaccount:prod-app:web"}
	switch token {
	case "good":
		return authenticationv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: []string{"identity.l5d.io"}}
	case "of the API":
		return authenticationv1.TokenReviewStatus{Authenticated: true, User: user, Audiences: []string{"https://kubernetes.default.svc"}}
	case "broken":
		return authenticationv1.TokenReviewStatus{Error: "no such key"}
	default:
		return authenticationv1.TokenReviewStatus{}
	}
}

func pod(name string) corev1.Pod {
	return corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: name, ResourceVersion: "6"},
	}
}

func serve(t *testing.T) (*Client, *api) {
	t.Helper()
	a := &api{asked: map[string]int{}, watch: make(chan any)}
	server := httptest.NewServer(a)
	c, err := New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return c, a
}

func TestCachesFillAndFollow(t *testing.T) {
	c, a := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pods, services, slices := c.Pods(), c.Services(), c.EndpointSlices()
	go pods.RunWithContext(ctx)
	go services.RunWithContext(ctx)
	go slices.RunWithContext(ctx)
	require.Eventually(t, func() bool { return pods.HasSynced() && services.HasSynced() && slices.HasSynced() }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"prod-app/web-1"}, pods.GetStore().ListKeys())
	require.Equal(t, []string{"prod-app/web"}, services.GetStore().ListKeys())
	require.Equal(t, []string{"prod-app/web-x"}, slices.GetStore().ListKeys())
	a.watch <- map[string]any{"type": "ADDED", "object": pod("web-2")}
	require.Eventually(t, func() bool { return len(pods.GetStore().ListKeys()) == 2 }, 10*time.Second, 10*time.Millisecond)
}

func TestTokensAreReviewedForTheirAudience(t *testing.T) {
	c, _ := serve(t)
	user, err := c.TokenReview(context.Background(), "good", "identity.l5d.io")
	require.NoError(t, err)
	require.Equal(t, "system:serviceaccount:prod-app:web", user)
	for _, token := range []string{"of the API", "forged"} {
		_, err = c.TokenReview(context.Background(), token, "identity.l5d.io")
		require.ErrorIs(t, err, ErrUnauthenticated, token)
	}
	_, err = c.TokenReview(context.Background(), "broken", "identity.l5d.io")
	require.ErrorContains(t, err, "no such key")
}

func TestAPodsOwnerIsItsDeploymentAndIsAskedForOnce(t *testing.T) {
	c, a := serve(t)
	yes := true
	meta := &metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f", UID: "u-r", Controller: &yes}}}
	owners := NewOwners(c)
	for range 3 {
		owner, err := owners.Of(context.Background(), "prod-app", meta)
		require.NoError(t, err)
		require.Equal(t, Owner{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "u-d"}, owner)
	}
	require.Equal(t, 1, a.asked["/apis/apps/v1/namespaces/prod-app/replicasets/web-5d4f"])
	meta.OwnerReferences[0].Name, meta.OwnerReferences[0].UID = "gone", "u-g"
	owner, err := owners.Of(context.Background(), "prod-app", meta)
	require.Error(t, err)
	require.Equal(t, "ReplicaSet", owner.Kind, "what is known without the API")
	owner, err = owners.Of(context.Background(), "prod-app", &metav1.ObjectMeta{Name: "probe"})
	require.NoError(t, err)
	require.Equal(t, "Pod", owner.Kind)
}

func TestNamespacesAndEvents(t *testing.T) {
	c, a := serve(t)
	ns, err := c.Namespace(context.Background(), "prod-app")
	require.NoError(t, err)
	require.Equal(t, "enabled", ns.Annotations["linkerd.io/inject"])
	_, err = c.Namespace(context.Background(), "none")
	require.Error(t, err)

	events := NewEvents(c, "linkerd-proxy-injector")
	defer events.Close()
	events.Normal(&corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "prod-app", Name: "web"}, "Injected", "it was")
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.events) == 1
	}, 5*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"Injected", "it was", "Normal", "web", "linkerd-proxy-injector"},
		[]string{a.events[0].Reason, a.events[0].Message, a.events[0].Type, a.events[0].InvolvedObject.Name, a.events[0].Source.Component})
}

func TestEventsAreWrittenBeforeTheirWriterIsClosed(t *testing.T) {
	c, a := serve(t)
	web := &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "prod-app", Name: "web"}
	events := NewEvents(c, "linkerd-identity")
	events.Normal(web, "IssuerUpdated", "taken")
	events.Warning(web, "IssuerValidationFailed", "refused")
	events.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.events, 2, "no more, no less")
	require.Equal(t, []string{"IssuerUpdated", "IssuerValidationFailed"}, []string{a.events[0].Reason, a.events[1].Reason})
}

func TestAnAPIServerThatIsAwayDoesNotHoldUpTheEnd(t *testing.T) {
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	require.NoError(t, err)
	events := NewEvents(c, "linkerd-identity")
	events.Normal(&corev1.ObjectReference{Kind: "Deployment", Namespace: "prod-app", Name: "web"}, "IssuerUpdated", "taken")
	began := time.Now()
	events.Close()
	require.Less(t, time.Since(began), 4*flushLimit)
}

func TestAPodsLabelsTellItsDeployment(t *testing.T) {
	yes := true
	p := pod("web-5d4f-x")
	p.Labels = map[string]string{"pod-template-hash": "5d4f"}
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5d4f", Controller: &yes}}
	kind, name := OwnerLabel(&p)
	require.Equal(t, []string{"deployment", "web"}, []string{kind, name})
	p.OwnerReferences[0] = metav1.OwnerReference{Kind: "StatefulSet", Name: "postgres", Controller: &yes}
	kind, name = OwnerLabel(&p)
	require.Equal(t, []string{"statefulset", "postgres"}, []string{kind, name})
}

package alb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testService(name string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: ports},
	}
}

func testPort(name string, port, nodePort int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, NodePort: nodePort}
}

type path struct {
	kind    networkingv1.PathType
	path    string
	service string
	port    int32
}

func testIngress(name string, notes map[string]string, paths ...path) *networkingv1.Ingress {
	class := "alb"
	var http networkingv1.HTTPIngressRuleValue
	for _, p := range paths {
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{
			Path: p.path, PathType: &p.kind,
			Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
				Name: p.service, Port: networkingv1.ServiceBackendPort{Number: p.port}}},
		})
	}
	annotations := map[string]string{}
	for k, v := range notes {
		annotations[annotation+k] = v
	}
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: name, Annotations: annotations},
		Spec: networkingv1.IngressSpec{IngressClassName: &class,
			Rules: []networkingv1.IngressRule{{IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &http}}}},
	}
}

func testNode(name, ip string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name},
				{Type: corev1.NodeInternalIP, Address: ip}},
		},
	}
}

func TestAnIngressBecomesRulesAndTargetGroups(t *testing.T) {
	catalog := testService("catalog-edge", testPort("http", 8080, 30080), testPort("grpc-edge", 9091, 30091), testPort("admin", 8081, 30081))
	want, problems := plan(objects{
		services: []*corev1.Service{catalog},
		nodes:    []*corev1.Node{testNode("b", "10.0.0.2"), testNode("a", "10.0.0.1")},
		ingresses: []*networkingv1.Ingress{
			testIngress("rest", map[string]string{"healthcheck-path": "/healthz", "healthcheck-port": "admin", "success-codes": "200-204"},
				path{networkingv1.PathTypePrefix, "/api/catalog", "catalog-edge", 8080}),
			testIngress("grpc", map[string]string{"backend-protocol-version": "GRPC"},
				path{networkingv1.PathTypeImplementationSpecific, "/shop.v1.ProductCatalog/*", "catalog-edge", 9091}),
		},
	})
	require.Empty(t, problems)
	require.Equal(t, []node{{"a", "10.0.0.1"}, {"b", "10.0.0.2"}}, want.nodes)
	require.Equal(t, []groupSpec{
		{Key: "prod-app/catalog-edge:8080/http", Listener: HTTP, NodePort: 30080, Check: checkSpec{
			Path: "/healthz", Port: 30081, Success: "200-204", Interval: 15 * time.Second, Timeout: 5 * time.Second, HealthyAt: 2, UnhealthyAt: 2}},
		{Key: "prod-app/catalog-edge:9091/grpc", Listener: GRPC, NodePort: 30091, Check: checkSpec{
			Path: "/AWS.ALB/healthcheck", Port: 30091, GRPC: true, Success: "12", Interval: 15 * time.Second, Timeout: 5 * time.Second, HealthyAt: 2, UnhealthyAt: 2}},
	}, want.groups)
	require.Equal(t, "prod-app/catalog-edge:8080/http", match(want.rules[HTTP], "x", "/api/catalog/products").group)
	require.Equal(t, "prod-app/catalog-edge:9091/grpc", match(want.rules[GRPC], "x", "/shop.v1.ProductCatalog/GetProduct").group)
	require.Nil(t, match(want.rules[HTTP], "x", "/shop.v1.ProductCatalog/GetProduct"))
}

func TestHealthCheckAnnotationsAreRead(t *testing.T) {
	http, grpc := testPort("http", 8080, 30080), testPort("grpc-edge", 9091, 30091)
	svc := testService("s", http, grpc)
	for _, c := range []struct {
		name     string
		listener Listener
		port     corev1.ServicePort
		notes    map[string]string
		want     checkSpec
	}{
		{"the defaults", HTTP, http, nil,
			checkSpec{"/", 30080, false, "200", 15 * time.Second, 5 * time.Second, 2, 2}},
		{"everything given", HTTP, http, map[string]string{"healthcheck-path": "/h", "healthcheck-port": "8081", "success-codes": "204",
			"healthcheck-interval-seconds": "7", "healthcheck-timeout-seconds": "3", "healthy-threshold-count": "4", "unhealthy-threshold-count": "5"},
			checkSpec{"/h", 8081, false, "204", 7 * time.Second, 3 * time.Second, 4, 5}},
		{"a gRPC method of its own", GRPC, grpc, map[string]string{"healthcheck-path": "/grpc.health.v1.Health/Check"},
			checkSpec{"/grpc.health.v1.Health/Check", 30091, true, "0", 15 * time.Second, 5 * time.Second, 2, 2}},
		{"a gRPC group checked by HTTP on another port", GRPC, grpc, map[string]string{"healthcheck-port": "http", "healthcheck-path": "/healthz"},
			checkSpec{"/healthz", 30080, false, "200", 15 * time.Second, 5 * time.Second, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := checkFor(testIngress("i", c.notes), svc, c.listener, c.port)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}

	own := testService("s", http)
	own.Annotations = map[string]string{annotation + "healthcheck-path": "/own"}
	got, err := checkFor(testIngress("i", map[string]string{"healthcheck-path": "/shared"}), own, HTTP, http)
	require.NoError(t, err)
	require.Equal(t, "/own", got.Path, "a Service's annotation comes first")
}

func TestWhatCannotBeServedIsNamed(t *testing.T) {
	ok := path{networkingv1.PathTypePrefix, "/ok", "catalog", 8080}
	with := func(p path) []path { return []path{ok, p} }
	for _, c := range []struct {
		name  string
		notes map[string]string
		paths []path
		want  string
	}{
		{"targets by pod address", map[string]string{"target-type": "ip"}, []path{ok}, `target-type "ip" is not served`},
		{"HTTP/2 backends", map[string]string{"backend-protocol-version": "HTTP2"}, []path{ok}, `backend-protocol-version "HTTP2"`},
		{"a missing service", nil, with(path{networkingv1.PathTypePrefix, "/x", "gone", 8080}), "service prod-app/gone does not exist"},
		{"a missing port", nil, with(path{networkingv1.PathTypePrefix, "/x", "catalog", 99}), "service prod-app/catalog: has no port 99"},
		{"a port without NodePort", nil, with(path{networkingv1.PathTypePrefix, "/x", "internal", 9090}), "no NodePort"},
		{"a wrong number", map[string]string{"healthy-threshold-count": "many"}, []path{ok}, `healthy-threshold-count: "many"`},
		{"wrong codes", map[string]string{"success-codes": "fine"}, []path{ok}, "success-codes"},
		{"a wrong path", map[string]string{"healthcheck-path": "healthz"}, []path{ok}, "does not begin with /"},
		{"an unknown check port", map[string]string{"healthcheck-port": "admin"}, []path{ok}, "healthcheck-port: has no port admin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, problems := plan(objects{
				services: []*corev1.Service{testService("catalog", testPort("http", 8080, 30080)),
					testService("internal", testPort("grpc", 9090, 0))},
				ingresses: []*networkingv1.Ingress{testIngress("broken", c.notes, c.paths...)},
			})
			require.Len(t, problems, 1)
			require.ErrorContains(t, problems[0], "ingress prod-app/broken: ")
			require.ErrorContains(t, problems[0], c.want)
			if len(c.paths) > 1 {
				require.NotNil(t, match(want.rules[HTTP], "x", "/ok"), "its other paths are served")
			}
		})
	}
}

func TestIngressesOfOtherClassesAreLeftAlone(t *testing.T) {
	other := testIngress("other", nil, path{networkingv1.PathTypePrefix, "/", "gone", 1})
	nginx := "nginx"
	other.Spec.IngressClassName = &nginx
	none := testIngress("none", nil, path{networkingv1.PathTypePrefix, "/", "gone", 1})
	none.Spec.IngressClassName = nil
	want, problems := plan(objects{ingresses: []*networkingv1.Ingress{other, none}})
	require.Empty(t, problems)
	require.Empty(t, want.rules)
}

func TestOnlyFitNodesAreTargets(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*corev1.Node)
		fit  bool
	}{
		{"a ready node", func(*corev1.Node) {}, true},
		{"a node that is not ready", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, false},
		{"a node without conditions", func(n *corev1.Node) { n.Status.Conditions = nil }, false},
		{"a cordoned node", func(n *corev1.Node) { n.Spec.Unschedulable = true }, false},
		{"an excluded node", func(n *corev1.Node) { n.Labels[corev1.LabelNodeExcludeBalancers] = "" }, false},
		{"the control plane", func(n *corev1.Node) { n.Labels["node-role.kubernetes.io/control-plane"] = "" }, false},
		{"a node being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} }, false},
		{"a node without an address", func(n *corev1.Node) { n.Status.Addresses = nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := testNode("n", "10.0.0.1")
			c.edit(n)
			require.Equal(t, c.fit, len(targetNodes([]*corev1.Node{n})) == 1)
		})
	}
}

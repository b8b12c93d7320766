package alb

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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

// planned is a plan as a load balancer with AWS's defaults makes it.
func planned(in objects) (desired, []error) {
	return plan(in, policy{targetType: InstanceTargets, settings: defaultSettings})
}

func defaultAttributes() attributes {
	return attributes{DeregistrationDelay: 5 * time.Minute, CrossZone: true}
}

func TestAnIngressBecomesRulesAndTargetGroups(t *testing.T) {
	catalog := testService("catalog-edge", testPort("http", 8080, 30080), testPort("grpc-edge", 9091, 30091), testPort("admin", 8081, 30081))
	a, b := testNode("a", "10.0.0.1"), testNode("b", "10.0.0.2")
	a.Labels[corev1.LabelTopologyZone], b.Labels[corev1.LabelTopologyZone] = "us-east-1a", "us-east-1b"
	want, problems := planned(objects{
		services: []*corev1.Service{catalog},
		nodes:    []*corev1.Node{b, a},
		ingresses: []*networkingv1.Ingress{
			testIngress("rest", map[string]string{"healthcheck-path": "/healthz", "healthcheck-port": "admin", "success-codes": "200-204",
				"load-balancer-attributes": "idle_timeout.timeout_seconds=30"},
				path{networkingv1.PathTypePrefix, "/api/catalog", "catalog-edge", 8080}),
			testIngress("grpc", map[string]string{"backend-protocol-version": "GRPC"},
				path{networkingv1.PathTypeImplementationSpecific, "/shop.v1.ProductCatalog/*", "catalog-edge", 9091}),
		},
	})
	require.Empty(t, problems)
	require.Equal(t, []string{"us-east-1a", "us-east-1b"}, want.zones)
	require.Equal(t, settings{Idle: 30 * time.Second, KeepAlive: time.Hour}, want.settings)
	require.Len(t, want.groups, 2)
	grpc, rest := want.groups[0], want.groups[1]
	require.Regexp(t, `^k8s-prodapp-cataloge-[0-9a-f]{10}$`, rest.spec.Name)
	require.NotEqual(t, rest.spec.Name, grpc.spec.Name)
	require.Equal(t, groupSpec{
		Name: rest.spec.Name, Key: "prod-app/rest/catalog-edge:8080", Service: "prod-app/catalog-edge", Listener: HTTP, Type: InstanceTargets, Idle: 30 * time.Second,
		Check:      checkSpec{Path: "/healthz", Success: "200-204", Interval: 15 * time.Second, Timeout: 5 * time.Second, HealthyAt: 2, UnhealthyAt: 2},
		attributes: defaultAttributes(),
	}, rest.spec)
	require.Equal(t, []endpoint{
		{IP: "10.0.0.1", Port: 30080, CheckPort: 30081, Node: "a", Zone: "us-east-1a"},
		{IP: "10.0.0.2", Port: 30080, CheckPort: 30081, Node: "b", Zone: "us-east-1b"},
	}, rest.endpoints)
	require.Equal(t, groupSpec{
		Name: grpc.spec.Name, Key: "prod-app/grpc/catalog-edge:9091", Service: "prod-app/catalog-edge", Listener: GRPC, Type: InstanceTargets, Idle: 30 * time.Second,
		Check:      checkSpec{Path: "/AWS.ALB/healthcheck", GRPC: true, Success: "12", Interval: 15 * time.Second, Timeout: 5 * time.Second, HealthyAt: 2, UnhealthyAt: 2},
		attributes: defaultAttributes(),
	}, grpc.spec)
	require.Equal(t, rest.spec.Name, match(want.rules[HTTP], "x", "/api/catalog/products").group)
	require.Equal(t, grpc.spec.Name, match(want.rules[GRPC], "x", "/shop.v1.ProductCatalog/GetProduct").group)
	require.Nil(t, match(want.rules[HTTP], "x", "/shop.v1.ProductCatalog/GetProduct"))
}

func TestRulesHaveTheirPriority(t *testing.T) {
	want, problems := planned(objects{
		services: []*corev1.Service{testService("catalog", testPort("http", 8080, 30080))},
		ingresses: []*networkingv1.Ingress{testIngress("rest", nil, path{networkingv1.PathTypePrefix, "/", "catalog", 8080},
			path{networkingv1.PathTypePrefix, "/api/catalog", "catalog", 8080}, path{networkingv1.PathTypeExact, "/api", "catalog", 8080})},
	})
	require.Empty(t, problems)
	for path, priority := range map[string]int{"/api": 1, "/api/catalog/7": 2, "/elsewhere": 3} {
		require.Equal(t, priority, match(want.rules[HTTP], "x", path).priority, path)
	}
	require.Len(t, want.groups, 1, "one Ingress and one Service are one target group")
}

func TestAnotherTypeOfTargetIsAnotherGroup(t *testing.T) {
	names := map[string]bool{}
	for _, notes := range []map[string]string{nil, {"target-type": "ip"}, {"backend-protocol": "HTTPS"}, {"healthcheck-path": "/other"}} {
		want, problems := planned(objects{
			services:  []*corev1.Service{testService("catalog", testPort("http", 8080, 30080))},
			ingresses: []*networkingv1.Ingress{testIngress("rest", notes, path{networkingv1.PathTypePrefix, "/", "catalog", 8080})},
		})
		require.Empty(t, problems)
		names[want.groups[0].spec.Name] = true
	}
	require.Len(t, names, 3, "but another health check is not")
}

func TestHealthChecksAreRead(t *testing.T) {
	for _, c := range []struct {
		name     string
		listener Listener
		notes    map[string]string
		want     checkSpec
	}{
		{"the defaults", HTTP, nil,
			checkSpec{"/", false, false, "200", 15 * time.Second, 5 * time.Second, 2, 2}},
		{"everything given", HTTP, map[string]string{"healthcheck-path": "/h?deep=1", "success-codes": "204", "healthcheck-protocol": "HTTPS",
			"healthcheck-interval-seconds": "7", "healthcheck-timeout-seconds": "3", "healthy-threshold-count": "4", "unhealthy-threshold-count": "5"},
			checkSpec{"/h?deep=1", false, true, "204", 7 * time.Second, 3 * time.Second, 4, 5}},
		{"a gRPC method of its own", GRPC, map[string]string{"healthcheck-path": "/grpc.health.v1.Health/Check"},
			checkSpec{"/grpc.health.v1.Health/Check", true, false, "0", 15 * time.Second, 5 * time.Second, 2, 2}},
		{"a gRPC group is asked by gRPC at any port", GRPC, map[string]string{"healthcheck-port": "9090", "success-codes": "0,12"},
			checkSpec{"/AWS.ALB/healthcheck", true, false, "0,12", 15 * time.Second, 5 * time.Second, 2, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := annotations{ingress: testIngress("i", c.notes).Annotations}
			require.Equal(t, c.want, read.check(c.listener, false))
			require.Empty(t, read.problems)
		})
	}
	read := annotations{
		service: map[string]string{annotation + "healthcheck-path": "/own"},
		ingress: map[string]string{annotation + "healthcheck-path": "/shared"},
	}
	require.Equal(t, "/own", read.check(HTTP, false).Path, "a Service's annotation comes first")
	require.True(t, read.check(HTTP, true).TLS, "targets behind TLS are checked behind it")
}

func TestTargetsAreCheckedAtTheirOwnPortOrAnother(t *testing.T) {
	svc := testService("s", testPort("http", 8080, 30080), testPort("admin", 8081, 30081), testPort("plain", 8082, 0))
	svc.Spec.Ports[1].TargetPort = intstr.FromInt32(9081)
	svc.Spec.Ports[0].TargetPort = intstr.FromString("http")
	for _, c := range []struct {
		name  string
		kind  TargetType
		where string
		want  int32
		err   string
	}{
		{"their own", IPTargets, "traffic-port", 0, ""},
		{"a number", IPTargets, "8081", 8081, ""},
		{"a port of a Service is a pod's own", IPTargets, "admin", 9081, ""},
		{"a port without a targetPort is the same number", IPTargets, "plain", 8082, ""},
		{"a port of a Service is a node's NodePort", InstanceTargets, "admin", 30081, ""},
		{"a named targetPort may differ from pod to pod", IPTargets, "http", 0, "named targetPort"},
		{"a port without NodePort", InstanceTargets, "plain", 0, "no NodePort"},
		{"no such port", IPTargets, "nowhere", 0, "has no port nowhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := checkPort(svc, c.kind, c.where)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
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
		{"another type of targets", map[string]string{"target-type": "lambda"}, []path{ok}, `target-type: "lambda" is not served, only instance and ip`},
		{"HTTP/2 backends", map[string]string{"backend-protocol-version": "HTTP2"}, []path{ok}, `backend-protocol-version: "HTTP2"`},
		{"a missing service", nil, with(path{networkingv1.PathTypePrefix, "/x", "gone", 8080}), "service prod-app/gone does not exist"},
		{"a missing port", nil, with(path{networkingv1.PathTypePrefix, "/x", "catalog", 99}), "service prod-app/catalog: has no port 99"},
		{"a port without NodePort", nil, with(path{networkingv1.PathTypePrefix, "/x", "internal", 9090}), "no NodePort"},
		{"a wrong number", map[string]string{"healthy-threshold-count": "many"}, []path{ok}, `healthy-threshold-count: "many"`},
		{"wrong codes", map[string]string{"success-codes": "fine"}, []path{ok}, "success-codes"},
		{"codes of gRPC for HTTP", map[string]string{"success-codes": "0"}, []path{ok}, `"0" is not within 200-499`},
		{"codes of HTTP for gRPC", map[string]string{"backend-protocol-version": "GRPC", "success-codes": "200"}, []path{ok}, `"200" is not within 0-99`},
		{"a wrong path", map[string]string{"healthcheck-path": "healthz"}, []path{ok}, "does not begin with /"},
		{"an unknown check port", map[string]string{"healthcheck-port": "admin"}, []path{ok}, "healthcheck-port: has no port admin"},
		{"an attribute that is not served", map[string]string{"target-group-attributes": "stickiness.enabled=true"}, []path{ok}, "stickiness.enabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, problems := planned(objects{
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

func TestIngressesShareTheLoadBalancersAttributes(t *testing.T) {
	catalog := testService("catalog", testPort("http", 8080, 30080))
	root := path{networkingv1.PathTypePrefix, "/", "catalog", 8080}
	one := testIngress("one", map[string]string{"load-balancer-attributes": "idle_timeout.timeout_seconds=30"}, root)
	two := testIngress("two", map[string]string{"load-balancer-attributes": "client_keep_alive.seconds=90"}, root)
	want, problems := planned(objects{services: []*corev1.Service{catalog}, ingresses: []*networkingv1.Ingress{one, two}})
	require.Empty(t, problems)
	require.Equal(t, settings{Idle: 30 * time.Second, KeepAlive: 90 * time.Second}, want.settings)

	two.Annotations[annotation+"load-balancer-attributes"] = "idle_timeout.timeout_seconds=31"
	want, problems = planned(objects{services: []*corev1.Service{catalog}, ingresses: []*networkingv1.Ingress{one, two}})
	require.Len(t, problems, 1)
	require.ErrorContains(t, problems[0], `ingress prod-app/two: load-balancer-attributes: idle_timeout.timeout_seconds: "31" here and "30" elsewhere`)
	require.Equal(t, 30*time.Second, want.Idle)
	require.Len(t, want.rules[HTTP], 2, "both are served")
}

func TestIngressesOfOtherClassesAreLeftAlone(t *testing.T) {
	other := testIngress("other", nil, path{networkingv1.PathTypePrefix, "/", "gone", 1})
	nginx := "nginx"
	other.Spec.IngressClassName = &nginx
	none := testIngress("none", nil, path{networkingv1.PathTypePrefix, "/", "gone", 1})
	none.Spec.IngressClassName = nil
	want, problems := planned(objects{ingresses: []*networkingv1.Ingress{other, none}})
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

func TestOnlyReadyPodsAreTargets(t *testing.T) {
	ready, ending := true, true
	not := false
	for _, c := range []struct {
		name       string
		conditions discoveryv1.EndpointConditions
		want       bool
	}{
		{"a ready pod", discoveryv1.EndpointConditions{Ready: &ready}, true},
		{"a pod that is not ready", discoveryv1.EndpointConditions{Ready: &not}, false},
		{"a pod of which nothing is known", discoveryv1.EndpointConditions{}, false},
		{"a pod that is being deleted", discoveryv1.EndpointConditions{Ready: &not, Serving: &ready, Terminating: &ending}, false},
		{"a pod that is being deleted and is published all the same", discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: &ending}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			slice := podsOf("http", 8080, pod{name: "shop-a", ip: "10.244.1.7"})
			slice.Endpoints[0].Conditions = c.conditions
			require.Equal(t, c.want, len(endpointsOf(t, slice)) == 1)
		})
	}
}

// endpointsOf are the targets that slices of the Service shop make for its port http.
func endpointsOf(t *testing.T, slices ...*discoveryv1.EndpointSlice) []endpoint {
	t.Helper()
	node := testNode("node-1", "10.0.0.1")
	node.Labels[corev1.LabelTopologyZone] = "us-east-1a"
	want, problems := planned(objects{
		services: []*corev1.Service{testService("shop", testPort("http", 80, 0), testPort("grpc", 9090, 0))}, slices: slices, nodes: []*corev1.Node{node},
		ingresses: []*networkingv1.Ingress{testIngress("rest", map[string]string{"target-type": "ip"}, path{networkingv1.PathTypePrefix, "/", "shop", 80})},
	})
	require.Empty(t, problems)
	return want.groups[0].endpoints
}

func TestPodsAreFoundInTheSlicesOfTheirService(t *testing.T) {
	one := podsOf("http", 8080, pod{name: "b", ip: "10.244.1.9", node: "node-1", ready: true}, pod{name: "a", ip: "10.244.1.7", ready: true})
	zone := "us-east-1c"
	one.Endpoints[1].Zone = &zone
	twice := podsOf("http", 8080, pod{name: "a", ip: "10.244.1.7", ready: true})
	twice.Endpoints[0].Zone = &zone
	other := podsOf("http", 8080, pod{name: "c", ip: "10.244.1.11", ready: true})
	other.Labels[discoveryv1.LabelServiceName] = "another"
	elsewhere := podsOf("http", 8080, pod{name: "d", ip: "10.244.1.12", ready: true})
	elsewhere.Namespace = "default"
	six := podsOf("http", 8080, pod{name: "e", ip: "fd00::7", ready: true})
	six.AddressType = discoveryv1.AddressTypeIPv6
	inner := podsOf("grpc", 9090, pod{name: "f", ip: "10.244.1.13", ready: true})
	require.Equal(t, []endpoint{
		{IP: "10.244.1.7", Port: 8080, Pod: "a", Zone: "us-east-1c"},
		{IP: "10.244.1.9", Port: 8080, Pod: "b", Node: "node-1", Zone: "us-east-1a"},
	}, endpointsOf(t, one, twice, other, elsewhere, six, inner))
}

package chart_test

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakeshop/chart"
)

// objects are what the chart renders to.
type objects struct {
	Deployments  map[string]appsv1.Deployment
	StatefulSets map[string]appsv1.StatefulSet
	Services     map[string]corev1.Service
	Accounts     map[string]corev1.ServiceAccount
	ConfigMaps   map[string]corev1.ConfigMap
	Ingresses    map[string]networkingv1.Ingress
	Budgets      map[string]policyv1.PodDisruptionBudget
	CronJobs     map[string]batchv1.CronJob
	Autoscalers  map[string]autoscalingv2.HorizontalPodAutoscaler
	Policies     map[string]unstructured.Unstructured // by kind and name
}

func images() map[string]any {
	return map[string]any{
		"shop":     map[string]any{"repository": "meshsim.local/fakeshop", "tag": "1"},
		"postgres": map[string]any{"repository": "meshsim.local/postgres", "tag": "15", "uid": 101, "gid": 104, "major": 15},
	}
}

func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	return renderWith(t, values, engine.Render)
}

// renderWith renders by an engine that may have a cluster to look things up in.
func renderWith(t *testing.T, values map[string]any, by func(*helmchart.Chart, chartutil.Values) (map[string]string, error)) (map[string]string, error) {
	t.Helper()
	var files []*loader.BufferedFile
	require.NoError(t, fs.WalkDir(chart.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := chart.FS.ReadFile(path)
		files = append(files, &loader.BufferedFile{Name: path, Data: data})
		return err
	}))
	c, err := loader.LoadFiles(files)
	require.NoError(t, err)
	if _, given := values["images"]; !given {
		values["images"] = images()
	}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "shop", Namespace: "prod-app"}, nil)
	if err != nil {
		return nil, err
	}
	return by(c, all)
}

func rendered(t *testing.T, values map[string]any) objects {
	t.Helper()
	out, err := render(t, values)
	require.NoError(t, err)
	return read(t, out)
}

func read(t *testing.T, out map[string]string) objects {
	t.Helper()
	o := objects{
		map[string]appsv1.Deployment{}, map[string]appsv1.StatefulSet{}, map[string]corev1.Service{},
		map[string]corev1.ServiceAccount{}, map[string]corev1.ConfigMap{}, map[string]networkingv1.Ingress{},
		map[string]policyv1.PodDisruptionBudget{}, map[string]batchv1.CronJob{}, map[string]autoscalingv2.HorizontalPodAutoscaler{}, map[string]unstructured.Unstructured{},
	}
	for name, text := range out {
		if strings.HasSuffix(name, ".tpl") {
			continue
		}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			o.add(t, doc)
		}
	}
	return o
}

func (o objects) add(t *testing.T, doc string) {
	t.Helper()
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(doc), &head), doc)
	if head.Kind == "" {
		return
	}
	require.Equal(t, "prod-app", head.Metadata.Namespace, doc)
	switch head.Kind {
	case "Deployment":
		put(t, o.Deployments, head.Metadata.Name, doc)
	case "StatefulSet":
		put(t, o.StatefulSets, head.Metadata.Name, doc)
	case "Service":
		put(t, o.Services, head.Metadata.Name, doc)
	case "ServiceAccount":
		put(t, o.Accounts, head.Metadata.Name, doc)
	case "ConfigMap":
		put(t, o.ConfigMaps, head.Metadata.Name, doc)
	case "Ingress":
		put(t, o.Ingresses, head.Metadata.Name, doc)
	case "PodDisruptionBudget":
		put(t, o.Budgets, head.Metadata.Name, doc)
	case "CronJob":
		put(t, o.CronJobs, head.Metadata.Name, doc)
	case "HorizontalPodAutoscaler":
		put(t, o.Autoscalers, head.Metadata.Name, doc)
	case "Server", "MeshTLSAuthentication", "NetworkAuthentication", "AuthorizationPolicy":
		var u unstructured.Unstructured
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &u.Object), doc)
		o.Policies[head.Kind+" "+head.Metadata.Name] = u
	default:
		t.Fatalf("unexpected kind %s", head.Kind)
	}
}

// put decodes strictly: a misspelt field is an error.
func put[T any](t *testing.T, into map[string]T, name, doc string) {
	t.Helper()
	var v T
	require.NoError(t, yaml.UnmarshalStrict([]byte(doc), &v), doc)
	into[name] = v
}

func TestDefaultsRenderEightServicesAndPostgreSQL(t *testing.T) {
	o := rendered(t, map[string]any{})
	require.Len(t, o.Deployments, 8)
	require.Len(t, chart.Services(), 8)
	require.Empty(t, o.Autoscalers)
	require.Empty(t, o.Policies)
	for _, name := range chart.Services() {
		d := o.Deployments[name]
		require.Equal(t, name, d.Spec.Template.Spec.ServiceAccountName)
		require.Contains(t, o.Accounts, name)
		require.Contains(t, o.Budgets, name)
		require.GreaterOrEqual(t, *d.Spec.Replicas, int32(3), name)
		require.LessOrEqual(t, *d.Spec.Replicas, int32(5), name)
		require.Equal(t, "1", d.Spec.Strategy.RollingUpdate.MaxSurge.String())
		require.Equal(t, "0", d.Spec.Strategy.RollingUpdate.MaxUnavailable.String())
		require.Equal(t, int64(30), *d.Spec.Template.Spec.TerminationGracePeriodSeconds)
		require.Equal(t, selector(name, "v1"), d.Spec.Selector.MatchLabels)
		require.Equal(t, selector(name, ""), o.Budgets[name].Spec.Selector.MatchLabels, "a budget is a service's, whatever its versions")
		require.Equal(t, selector(name, "v1"), o.Services[name].Spec.Selector)

		annotations := d.Spec.Template.Annotations
		require.Equal(t, "8080,9091", annotations["config.linkerd.io/skip-inbound-ports"])
		require.NotContains(t, annotations, "linkerd.io/inject")
		require.NotContains(t, annotations, "config.linkerd.io/default-inbound-policy")
		require.NotContains(t, annotations, "config.alpha.linkerd.io/proxy-wait-before-exit-seconds")

		grpc := o.Services[name].Spec.Ports
		require.Len(t, grpc, 1)
		require.Equal(t, int32(9090), grpc[0].Port)
		require.Equal(t, "grpc", grpc[0].Name)
		require.Equal(t, "grpc", *grpc[0].AppProtocol)

		app := d.Spec.Template.Spec.Containers[0]
		require.Equal(t, "app", app.Name)
		require.Equal(t, "meshsim.local/fakeshop:1", app.Image)
		require.Equal(t, []string{"serve", name}, app.Args)
		require.Equal(t, "/readyz", app.StartupProbe.HTTPGet.Path)
		require.Equal(t, int32(1), app.StartupProbe.PeriodSeconds)
		require.Equal(t, "/readyz", app.ReadinessProbe.HTTPGet.Path)
		require.Equal(t, "/healthz", app.LivenessProbe.HTTPGet.Path)
		require.Equal(t, "100m", app.Resources.Requests.Cpu().String())
		require.Equal(t, "64Mi", app.Resources.Requests.Memory().String())
		require.True(t, app.Resources.Limits.Cpu().IsZero())
		require.Equal(t, "128Mi", app.Resources.Limits.Memory().String())
		require.Equal(t, "1", env(app)["GOMAXPROCS"])
		require.Equal(t, "v1", env(app)["SHOP_VERSION"])
		require.Equal(t, "1", env(app)["SHOP_RETRIES"])
		require.NotContains(t, env(app), "SHOP_BEHAVIOUR")
		require.NotContains(t, env(app), "SHOP_DB_READ_HOST")
		require.Equal(t, "spec.nodeName", from(app)["SHOP_NODE"])
		require.Equal(t, "topology.kubernetes.io/zone", d.Spec.Template.Spec.TopologySpreadConstraints[0].TopologyKey)
	}
	require.NotContains(t, o.Services, "payment-gateway-edge")
	require.Equal(t, corev1.ServiceTypeNodePort, o.Services["product-catalog-edge"].Spec.Type)
	require.Len(t, o.Services["product-catalog-edge"].Spec.Ports, 2)

	pg := o.StatefulSets["postgres"]
	require.Equal(t, "disabled", pg.Spec.Template.Annotations["linkerd.io/inject"])
	require.Equal(t, "gp3", *pg.Spec.VolumeClaimTemplates[0].Spec.StorageClassName)
	require.Equal(t, "200Gi", pg.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String())
	require.Equal(t, int64(101), *pg.Spec.Template.Spec.SecurityContext.RunAsUser)
	require.Equal(t, "/usr/lib/postgresql/15/bin", env(pg.Spec.Template.Spec.Containers[0])["PG_BIN"])
	require.Contains(t, o.ConfigMaps["postgres-entry"].Data["entry.sh"], "initdb")
}

// selector is the labels of a service's pods, of all versions when it is "".
func selector(name, version string) map[string]string {
	labels := map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "fakeshop"}
	if version != "" {
		labels["app.kubernetes.io/version"] = version
	}
	return labels
}

// from is the fields that a container's environment comes from.
func from(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			out[e.Name] = e.ValueFrom.FieldRef.FieldPath
		}
	}
	return out
}

func env(c corev1.Container) map[string]string {
	out := map[string]string{}
	for _, e := range c.Env {
		out[e.Name] = e.Value
	}
	return out
}

func TestPodsMeetPodSecurityRestricted(t *testing.T) {
	o := rendered(t, map[string]any{"postgres": map[string]any{"replica": map[string]any{"enabled": true}},
		"canaries": map[string]any{"product-catalog": map[string]any{"v2": map[string]any{}}}})
	specs := map[string]corev1.PodSpec{}
	for name, s := range o.StatefulSets {
		specs[name] = s.Spec.Template.Spec
	}
	for name, d := range o.Deployments {
		specs[name] = d.Spec.Template.Spec
	}
	require.Len(t, specs, 11)
	for name, spec := range specs {
		pod := spec.SecurityContext
		require.True(t, *pod.RunAsNonRoot, name)
		require.NotZero(t, *pod.RunAsUser, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SeccompProfile.Type, name)
		require.False(t, *spec.AutomountServiceAccountToken, name)
		for _, c := range spec.Containers {
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
		}
	}
}

func TestRequestsAreFittedButNeverUnderTheirLeast(t *testing.T) {
	cases := []struct {
		name        string
		cpu, memory float64
		wantCPU     string
		wantMemory  string
	}{
		{"the whole", 1, 1, "100m", "64Mi"},
		{"a half", 0.5, 0.5, "50m", "32Mi"},
		{"a third is rounded down", 0.333, 0.9, "33m", "57Mi"},
		{"hardly any gets the least", 0.01, 0.01, "5m", "24Mi"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := rendered(t, map[string]any{"fit": map[string]any{"cpu": c.cpu, "memory": c.memory}})
			got := o.Deployments["order-processing"].Spec.Template.Spec.Containers[0].Resources
			require.Equal(t, c.wantCPU, got.Requests.Cpu().String())
			require.Equal(t, c.wantMemory, got.Requests.Memory().String())
			require.Equal(t, "128Mi", got.Limits.Memory().String())
		})
	}
}

func TestReplicaLimitLowersOnlyWhatIsAboveIt(t *testing.T) {
	o := rendered(t, map[string]any{"replicaLimit": 3, "replicas": map[string]any{"payment-gateway": 2, "product-catalog": 5}})
	require.Equal(t, int32(2), *o.Deployments["payment-gateway"].Spec.Replicas)
	require.Equal(t, int32(3), *o.Deployments["product-catalog"].Spec.Replicas)
	require.Equal(t, int32(3), *o.Deployments["analytics-service"].Spec.Replicas)
}

func TestMeshValuesBecomeAnnotations(t *testing.T) {
	o := rendered(t, map[string]any{
		"mesh": map[string]any{"proxyWaitSeconds": 8},
		"services": map[string]any{"order-processing": map[string]any{
			"inject": true, "secretsSource": "vault", "inboundPolicy": "all-authenticated",
		}},
	})
	orders := o.Deployments["order-processing"].Spec.Template
	require.Equal(t, "enabled", orders.Annotations["linkerd.io/inject"])
	require.Equal(t, "all-authenticated", orders.Annotations["config.linkerd.io/default-inbound-policy"])
	require.Equal(t, "8", orders.Annotations["config.alpha.linkerd.io/proxy-wait-before-exit-seconds"])
	require.Equal(t, "vault", env(orders.Spec.Containers[0])["SHOP_SECRETS"])

	other := o.Deployments["product-catalog"].Spec.Template
	require.NotContains(t, other.Annotations, "linkerd.io/inject")
	require.NotContains(t, other.Annotations, "config.linkerd.io/default-inbound-policy")
	require.Equal(t, "file", env(other.Spec.Containers[0])["SHOP_SECRETS"])
}

func TestChangingOneServiceRollsNoOther(t *testing.T) {
	before := rendered(t, map[string]any{}).Deployments
	after := rendered(t, map[string]any{"services": map[string]any{
		"order-processing": map[string]any{"inject": true, "secretsSource": "vault", "inboundPolicy": "deny"},
		"payment-gateway":  map[string]any{"inject": false, "secretsSource": "", "inboundPolicy": ""},
	}}).Deployments
	for name, d := range after {
		require.Equal(t, name != "order-processing", reflect.DeepEqual(before[name].Spec.Template, d.Spec.Template), name)
	}
}

func TestDrainValues(t *testing.T) {
	careful := env(rendered(t, map[string]any{"drain": map[string]any{"seconds": 7}}).Deployments["customer-profile"].Spec.Template.Spec.Containers[0])
	require.Equal(t, "7s", careful["SHOP_DRAIN"])
	require.Equal(t, "20s", careful["SHOP_HARD_STOP"])
	careless := env(rendered(t, map[string]any{"drain": map[string]any{"enabled": false}, "terminationGracePeriodSeconds": 10}).
		Deployments["customer-profile"].Spec.Template.Spec.Containers[0])
	require.Equal(t, "0s", careless["SHOP_DRAIN"])
	require.Equal(t, "5s", careless["SHOP_HARD_STOP"])
}

func TestSecretsComeFromAFileOrFromVault(t *testing.T) {
	file := rendered(t, map[string]any{})
	keys := map[string][]string{}
	for _, name := range []string{"order-processing", "payment-gateway"} {
		for _, item := range file.Deployments[name].Spec.Template.Spec.Volumes[0].Secret.Items {
			keys[name] = append(keys[name], item.Key)
		}
	}
	require.Equal(t, []string{"db-user", "db-password"}, keys["order-processing"])
	require.Equal(t, []string{"db-user", "db-password", "payment-key"}, keys["payment-gateway"])

	vault := rendered(t, map[string]any{"secrets": map[string]any{"source": "vault"}}).Deployments["order-processing"].Spec.Template.Spec
	e := env(vault.Containers[0])
	require.Equal(t, "vault", e["SHOP_SECRETS"])
	require.Equal(t, "secret/data/prod-app/order-processing", e["VAULT_PATH"])
	require.Equal(t, "order-processing", e["VAULT_ROLE"])
	require.Equal(t, "vault", vault.Volumes[0].Projected.Sources[0].ServiceAccountToken.Audience)
	require.Equal(t, "vault-ca", vault.Volumes[1].ConfigMap.Name)

}

func TestImagesMustBeGiven(t *testing.T) {
	_, err := render(t, map[string]any{"images": map[string]any{}})
	require.ErrorContains(t, err, "repository is required")
}

func TestWrongValuesAreRefused(t *testing.T) {
	cases := map[string]map[string]any{
		"an unknown key":                {"replicaLimits": 3},
		"a period of nothing":           {"rotation": map[string]any{"periodHours": 0}},
		"an unknown service":            {"replicas": map[string]any{"catalog": 3}},
		"an unknown secret source":      {"secrets": map[string]any{"source": "nowhere"}},
		"a factor over one":             {"fit": map[string]any{"cpu": 1.5}},
		"a number as text":              {"replicaLimit": "3"},
		"an unknown policy":             {"services": map[string]any{"analytics-service": map[string]any{"inboundPolicy": "all"}}},
		"an unknown target type":        {"edge": map[string]any{"targetType": "lambda"}},
		"an unknown mesh service":       {"services": map[string]any{"all": map[string]any{"inject": true}}},
		"the first version as a canary": {"canaries": map[string]any{"product-catalog": map[string]any{"v1": map[string]any{}}}},
		"a version that is a word":      {"serving": map[string]any{"product-catalog": "latest"}},
		"an unknown behaviour":          {"behaviour": map[string]any{"product-catalog": map[string]any{"lazy": true}}},
		"behaviour of nobody":           {"behaviour": map[string]any{"catalog": map[string]any{}}},
		"a rate over one":               {"behaviour": map[string]any{"product-catalog": map[string]any{"errors": map[string]any{"rate": 2}}}},
		"a delay without a kind":        {"behaviour": map[string]any{"product-catalog": map[string]any{"latency": map[string]any{"p50": "5ms"}}}},
		"a provider's rate over one":    {"provider": map[string]any{"lostRate": 2}},
		"a duration as a number":        {"reservations": map[string]any{"keep": 15}},
		"no networks":                   {"policies": map[string]any{"adminNetworks": []any{}}},
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, values)
			require.ErrorContains(t, err, "values don't meet the specifications of the schema")
		})
	}
}

func TestIngressesRouteToTheEdges(t *testing.T) {
	o := rendered(t, map[string]any{})
	routes := func(name string) map[string]string {
		out := map[string]string{}
		for _, p := range o.Ingresses[name].Spec.Rules[0].HTTP.Paths {
			b := p.Backend.Service
			require.Contains(t, o.Services, b.Name)
			out[p.Path] = b.Name + ":" + b.Port.Name
		}
		require.Equal(t, "alb", *o.Ingresses[name].Spec.IngressClassName)
		require.Equal(t, "instance", o.Ingresses[name].Annotations["alb.ingress.kubernetes.io/target-type"])
		return out
	}
	require.Equal(t, map[string]string{
		"/api/catalog":         "product-catalog-edge:http",
		"/api/inventory":       "inventory-management-edge:http",
		"/api/orders":          "order-processing-edge:http",
		"/api/customers":       "customer-profile-edge:http",
		"/api/configurations":  "configuration-engine-edge:http",
		"/api/recommendations": "recommendation-service-edge:http",
		"/api/analytics":       "analytics-service-edge:http",
	}, routes("shop-rest"))
	require.Equal(t, map[string]string{
		"/shop.v1.ProductCatalog/GetProduct":       "product-catalog-edge:grpc-edge",
		"/shop.v1.ProductCatalog/ListProducts":     "product-catalog-edge:grpc-edge",
		"/shop.v1.ProductCatalog/SearchProducts":   "product-catalog-edge:grpc-edge",
		"/shop.v1.InventoryManagement/GetStock":    "inventory-management-edge:grpc-edge",
		"/shop.v1.ConfigurationEngine/Configure":   "configuration-engine-edge:grpc-edge",
		"/shop.v1.RecommendationService/Recommend": "recommendation-service-edge:grpc-edge",
	}, routes("shop-grpc"))
	require.Equal(t, "GRPC", o.Ingresses["shop-grpc"].Annotations["alb.ingress.kubernetes.io/backend-protocol-version"])
}

func TestTheEdgesSettingsBecomeAnnotations(t *testing.T) {
	const prefix = "alb.ingress.kubernetes.io/"
	for name, c := range map[string]struct {
		edge                map[string]any
		kind, group, shared string
		service             corev1.ServiceType
	}{
		"the defaults": {nil, "instance",
			"deregistration_delay.timeout_seconds=300,slow_start.duration_seconds=0,load_balancing.algorithm.type=round_robin", "idle_timeout.timeout_seconds=60", corev1.ServiceTypeNodePort},
		"pods as targets": {map[string]any{"targetType": "ip", "deregistrationDelaySeconds": 15, "slowStartSeconds": 30, "idleTimeoutSeconds": 10}, "ip",
			"deregistration_delay.timeout_seconds=15,slow_start.duration_seconds=30,load_balancing.algorithm.type=round_robin", "idle_timeout.timeout_seconds=10", corev1.ServiceTypeClusterIP},
		"no delay, and the least busy first": {map[string]any{"deregistrationDelaySeconds": 0, "algorithm": "least_outstanding_requests"}, "instance",
			"deregistration_delay.timeout_seconds=0,slow_start.duration_seconds=0,load_balancing.algorithm.type=least_outstanding_requests", "idle_timeout.timeout_seconds=60", corev1.ServiceTypeNodePort},
	} {
		t.Run(name, func(t *testing.T) {
			values := map[string]any{}
			if c.edge != nil {
				values["edge"] = c.edge
			}
			o := rendered(t, values)
			for ingress, version := range map[string]string{"shop-rest": "HTTP1", "shop-grpc": "GRPC"} {
				notes := o.Ingresses[ingress].Annotations
				require.Equal(t, []string{c.kind, c.group, c.shared, version, "traffic-port"},
					[]string{notes[prefix+"target-type"], notes[prefix+"target-group-attributes"], notes[prefix+"load-balancer-attributes"],
						notes[prefix+"backend-protocol-version"], notes[prefix+"healthcheck-port"]})
			}
			edge := o.Services["product-catalog-edge"]
			require.Equal(t, c.service, edge.Spec.Type)
			_, others := edge.Labels["service.kubernetes.io/service-proxy-name"]
			require.Equal(t, c.kind == "ip", others, "kube-proxy leaves out a Service that nobody calls")
			require.Equal(t, "8080,9091", o.Deployments["product-catalog"].Spec.Template.Annotations["config.linkerd.io/skip-inbound-ports"],
				"the load balancer has no identity, however it gets to a pod")
		})
	}
}

package chart_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/payments"
)

func canary(service string, fields map[string]any) map[string]any {
	return map[string]any{service: map[string]any{"v2": fields}}
}

func app(d appsv1.Deployment) map[string]string { return env(d.Spec.Template.Spec.Containers[0]) }

func TestACanaryIsASecondDeploymentOfTheSameService(t *testing.T) {
	o := rendered(t, map[string]any{"canaries": canary("product-catalog", map[string]any{"replicas": 2, "tag": "next",
		"behaviour": map[string]any{"errors": map[string]any{"rate": 0.05}}}),
		"services": map[string]any{"product-catalog": map[string]any{"inject": true, "secretsSource": "vault"}}})
	require.Len(t, o.Deployments, 9)
	v1, v2 := o.Deployments["product-catalog"], o.Deployments["product-catalog-v2"]
	require.Equal(t, selector("product-catalog", "v1"), v1.Spec.Selector.MatchLabels)
	require.Equal(t, selector("product-catalog", "v2"), v2.Spec.Selector.MatchLabels)
	require.Equal(t, selector("product-catalog", "v2"), v2.Spec.Template.Labels)
	require.Equal(t, int32(2), *v2.Spec.Replicas)
	require.Equal(t, "meshsim.local/fakeshop:1", v1.Spec.Template.Spec.Containers[0].Image)
	require.Equal(t, "meshsim.local/fakeshop:next", v2.Spec.Template.Spec.Containers[0].Image)
	require.Equal(t, []string{"serve", "product-catalog"}, v2.Spec.Template.Spec.Containers[0].Args)
	require.Equal(t, "product-catalog", v2.Spec.Template.Spec.ServiceAccountName, "it has the identity of its service")
	require.Equal(t, "enabled", v2.Spec.Template.Annotations["linkerd.io/inject"], "and its state in the rollout")
	require.Equal(t, "vault", app(v2)["SHOP_SECRETS"])
	require.Equal(t, "product-catalog", app(v2)["VAULT_ROLE"])
	require.Equal(t, "v2", app(v2)["SHOP_VERSION"])
	require.NotContains(t, app(v1), "SHOP_BEHAVIOUR")
	require.Contains(t, app(v2), "SHOP_BEHAVIOUR")

	require.Equal(t, selector("product-catalog", "v1"), o.Services["product-catalog"].Spec.Selector)
	require.Equal(t, selector("product-catalog", "v1"), o.Services["product-catalog-edge"].Spec.Selector)
	require.Equal(t, selector("product-catalog", "v1"), o.Services["product-catalog-v1"].Spec.Selector)
	require.Equal(t, selector("product-catalog", "v2"), o.Services["product-catalog-v2"].Spec.Selector)
	require.Equal(t, int32(9090), o.Services["product-catalog-v2"].Spec.Ports[0].Port)
	require.NotContains(t, o.Services, "order-processing-v1", "where there is one version there is one name")
	require.Len(t, o.Budgets, 8)
}

func TestAServicesNameLeadsWhereItIsTold(t *testing.T) {
	for serving, want := range map[string]map[string]string{
		"v2": selector("product-catalog", "v2"), "all": selector("product-catalog", ""),
	} {
		o := rendered(t, map[string]any{"canaries": canary("product-catalog", map[string]any{}), "serving": map[string]any{"product-catalog": serving}})
		require.Equal(t, want, o.Services["product-catalog"].Spec.Selector)
		require.Equal(t, want, o.Services["product-catalog-edge"].Spec.Selector)
		require.Equal(t, selector("customer-profile", "v1"), o.Services["customer-profile"].Spec.Selector)
		require.Equal(t, int32(1), *o.Deployments["product-catalog-v2"].Spec.Replicas)
	}
}

func TestAutoscalersFollowCPU(t *testing.T) {
	o := rendered(t, map[string]any{"autoscaling": map[string]any{"enabled": true}, "canaries": canary("product-catalog", map[string]any{})})
	require.Len(t, o.Autoscalers, 9)
	for name, d := range o.Deployments {
		h := o.Autoscalers[name]
		require.Equal(t, *h.Spec.MinReplicas, *d.Spec.Replicas, "a new one begins with the least")
		require.Equal(t, name, h.Spec.ScaleTargetRef.Name)
		require.Equal(t, int32(70), *h.Spec.Metrics[0].Resource.Target.AverageUtilization)
		require.Equal(t, int32(300), *h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds)
		require.LessOrEqual(t, *h.Spec.MinReplicas, h.Spec.MaxReplicas)
	}
	require.Equal(t, int32(4), *o.Autoscalers["product-catalog"].Spec.MinReplicas)
	require.Equal(t, int32(5), o.Autoscalers["product-catalog"].Spec.MaxReplicas)
	require.Equal(t, int32(1), *o.Autoscalers["product-catalog-v2"].Spec.MinReplicas)
	fitted := rendered(t, map[string]any{"autoscaling": map[string]any{"enabled": true}, "replicaLimit": 3}).Autoscalers["product-catalog"]
	require.Equal(t, int32(3), *fitted.Spec.MinReplicas)
	require.Equal(t, int32(3), fitted.Spec.MaxReplicas)
}

func TestOneServiceMayHaveAnAutoscalerOfItsOwn(t *testing.T) {
	o := rendered(t, map[string]any{"replicaLimit": 3, "canaries": canary("product-catalog", map[string]any{}), "autoscaling": map[string]any{
		"services": map[string]any{"product-catalog": map[string]any{"maxReplicas": 5, "scaleDownAfterSeconds": 30}, "customer-profile": map[string]any{}}}})
	require.Len(t, o.Autoscalers, 2, "not of a canary")
	own, plain := o.Autoscalers["product-catalog"].Spec, o.Autoscalers["customer-profile"].Spec
	require.Equal(t, []int32{3, 5, 30}, []int32{*own.MinReplicas, own.MaxReplicas, *own.Behavior.ScaleDown.StabilizationWindowSeconds},
		"what is asked for one service goes beyond what fits all")
	require.Equal(t, []int32{3, 3, 300}, []int32{*plain.MinReplicas, plain.MaxReplicas, *plain.Behavior.ScaleDown.StabilizationWindowSeconds})
	require.Equal(t, int32(3), *o.Deployments["order-processing"].Spec.Replicas)
}

// A pod whose request was made smaller to fit the host works no less than
// another, and would otherwise always look busy.
func TestAnAutoscalersTargetIsOfTheRequestsBeforeTheyWereFitted(t *testing.T) {
	for name, c := range map[string]struct {
		fit     float64
		request string
		target  int32
	}{
		"a host with room":  {1, "100m", 70},
		"half of it":        {0.5, "50m", 140},
		"a sixth of it":     {1.0 / 6, "16m", 438},
		"hardly any of it":  {0.01, "5m", 1400},
		"what does not fit": {0.33, "33m", 213},
	} {
		t.Run(name, func(t *testing.T) {
			o := rendered(t, map[string]any{"autoscaling": map[string]any{"enabled": true}, "fit": map[string]any{"cpu": c.fit}})
			request := o.Deployments["product-catalog"].Spec.Template.Spec.Containers[0].Resources.Requests["cpu"]
			require.Equal(t, c.request, request.String())
			require.Equal(t, c.target, *o.Autoscalers["product-catalog"].Spec.Metrics[0].Resource.Target.AverageUtilization)
		})
	}
}

// liveCluster lets templates look Deployments up.
type liveCluster struct{ dynamic.Interface }

func (c liveCluster) GetClientFor(_, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if kind != "Deployment" {
		return nil, false, errors.New("only Deployments are looked up")
	}
	return c.Resource(deploymentsKind), true, nil
}

var deploymentsKind = appsv1.SchemeGroupVersion.WithResource("deployments")

func TestAnUpgradeUndoesNothingThatWasScaled(t *testing.T) {
	running := func(name string, pods int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": map[string]any{"name": name, "namespace": "prod-app"}, "spec": map[string]any{"replicas": pods}}}
	}
	cluster := liveCluster{dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{deploymentsKind: "DeploymentList"},
		running("product-catalog", 5), running("customer-profile", 1), running("order-processing", 5))}
	out, err := renderWith(t, map[string]any{"replicaLimit": 3, "autoscaling": map[string]any{"services": map[string]any{
		"product-catalog": map[string]any{"maxReplicas": 5}, "customer-profile": map[string]any{}, "payment-gateway": map[string]any{}}}},
		func(c *helmchart.Chart, values chartutil.Values) (map[string]string, error) {
			return engine.RenderWithClientProvider(c, values, cluster)
		})
	require.NoError(t, err)
	o := read(t, out)
	for name, want := range map[string]int32{
		"product-catalog":  5, // as it was scaled
		"customer-profile": 3, // never below the least
		"payment-gateway":  3, // there is none yet
		"order-processing": 3, // nobody scales it, so what is said holds
	} {
		require.Equal(t, want, *o.Deployments[name].Spec.Replicas, name)
	}
}

// What the chart writes is what the service reads.
func TestABehaviourReachesItsServiceAlone(t *testing.T) {
	before := rendered(t, map[string]any{}).Deployments
	o := rendered(t, map[string]any{"behaviour": map[string]any{"order-processing": map[string]any{
		"latency": map[string]any{"kind": "lognormal", "p50": "20ms", "p99": "200ms"}, "errors": map[string]any{"rate": 0.01, "code": "INTERNAL"},
		"ballastMiB": 64, "leakBytes": 1048576, "startDelay": "20s", "warmup": "30s", "cold": map[string]any{"kind": "constant", "p50": "300ms"},
		"burn": "20ms", "drain": false, "probes": "grpc", "seed": 7,
	}}})
	for name, d := range o.Deployments {
		require.Equal(t, name != "order-processing", app(before[name])["SHOP_DRAIN"] == app(d)["SHOP_DRAIN"])
		if name == "order-processing" {
			continue
		}
		require.Equal(t, before[name].Spec.Template, d.Spec.Template)
	}
	d := o.Deployments["order-processing"]
	c, err := behaviour.Parse(app(d)["SHOP_BEHAVIOUR"])
	require.NoError(t, err)
	require.Equal(t, behaviour.Lognormal, c.Latency.Kind)
	require.Equal(t, behaviour.Errors{Rate: 0.01, Code: "INTERNAL"}, c.Errors)
	require.Equal(t, 1<<20, c.LeakBytes)
	require.Equal(t, behaviour.Duration(20*time.Millisecond), c.Burn)
	require.Equal(t, uint64(7), c.Seed)
	require.Equal(t, "0s", app(d)["SHOP_DRAIN"])
	container := d.Spec.Template.Spec.Containers[0]
	require.Equal(t, int32(9090), container.ReadinessProbe.GRPC.Port)
	require.Equal(t, int32(9090), container.StartupProbe.GRPC.Port)
	require.Equal(t, "live", *container.LivenessProbe.GRPC.Service)
	require.Nil(t, container.ReadinessProbe.HTTPGet)
}

func TestSettingsReachTheServiceThatTheyAreFor(t *testing.T) {
	o := rendered(t, map[string]any{"retries": 0, "reservations": map[string]any{"keep": "90s"}, "orders": map[string]any{"giveUpAfter": "2m"},
		"provider": map[string]any{"lostRate": 0.5, "latency": map[string]any{"kind": "constant", "p50": "80ms"}}})
	require.Equal(t, "0", app(o.Deployments["customer-profile"])["SHOP_RETRIES"])
	for name, only := range map[string]string{"SHOP_RESERVATION": "inventory-management", "SHOP_GIVE_UP": "order-processing", "SHOP_PROVIDER": "payment-gateway"} {
		for service, d := range o.Deployments {
			_, there := app(d)[name]
			require.Equal(t, service == only, there, "%s of %s", name, service)
		}
	}
	require.Equal(t, "90s", app(o.Deployments["inventory-management"])["SHOP_RESERVATION"])
	require.Equal(t, "2m", app(o.Deployments["order-processing"])["SHOP_GIVE_UP"])
	c, err := payments.ParseProvider(app(o.Deployments["payment-gateway"])["SHOP_PROVIDER"])
	require.NoError(t, err)
	require.InDelta(t, 0.5, c.LostRate, 0)
}

func TestTheDatabaseMayHaveAReplicaAndAProxy(t *testing.T) {
	o := rendered(t, map[string]any{"postgres": map[string]any{"meshed": true, "inboundPolicy": "all-authenticated", "replica": map[string]any{"enabled": true}}})
	require.Len(t, o.StatefulSets, 2)
	primary, replica := o.StatefulSets["postgres"].Spec, o.StatefulSets["postgres-replica"].Spec
	require.Equal(t, selector("postgres", ""), o.Services["postgres"].Spec.Selector)
	require.Equal(t, selector("postgres-replica", ""), o.Services["postgres-read"].Spec.Selector)
	require.Equal(t, selector("postgres-replica", ""), replica.Selector.MatchLabels)
	require.Equal(t, "postgres-read", replica.ServiceName)
	require.Equal(t, "postgres-replica", replica.Template.Spec.ServiceAccountName)
	require.Contains(t, o.Accounts, "postgres-replica")
	e := env(replica.Template.Spec.Containers[0])
	require.Equal(t, "replica", e["PG_ROLE"])
	require.Equal(t, "postgres", e["PG_PRIMARY"])
	require.NotContains(t, env(primary.Template.Spec.Containers[0]), "PG_ROLE")
	for _, spec := range []appsv1.StatefulSetSpec{primary, replica} {
		require.Equal(t, "/etc/postgres-replication", env(spec.Template.Spec.Containers[0])["PG_REPLICATION"])
		require.Equal(t, "enabled", spec.Template.Annotations["linkerd.io/inject"])
		require.Equal(t, "5432", spec.Template.Annotations["config.linkerd.io/opaque-ports"])
		require.Equal(t, "all-authenticated", spec.Template.Annotations["config.linkerd.io/default-inbound-policy"])
	}
	for _, name := range []string{"postgres", "postgres-read"} {
		require.Equal(t, "5432", o.Services[name].Annotations["config.linkerd.io/opaque-ports"])
	}
	var secrets []string
	for _, v := range replica.Template.Spec.Volumes {
		if v.Secret != nil {
			secrets = append(secrets, v.Secret.SecretName)
		}
	}
	require.Equal(t, []string{"postgres-replication"}, secrets, "a replica needs no login of the shop's")
	require.Equal(t, "postgres-read", app(o.Deployments["product-catalog"])["SHOP_DB_READ_HOST"])
	require.Equal(t, int64(60), *replica.Template.Spec.TerminationGracePeriodSeconds)
}

func TestCallersAreDeclaredOnceAndPoliciesFollow(t *testing.T) {
	services, err := chart.Declared()
	require.NoError(t, err)
	require.Len(t, services, 8)
	for _, e := range chart.Edges() {
		require.True(t, e.Callee == chart.Database || e.Callee != e.Caller && slices.Contains(chart.Services(), e.Callee), "%v", e)
		require.True(t, chart.Allowed(e.Caller, e.Callee))
	}
	require.False(t, chart.Allowed("analytics-service", "payment-gateway"))
	require.False(t, chart.Allowed("product-catalog", "payment-gateway"))

	for _, meshed := range []bool{false, true} {
		o := rendered(t, map[string]any{"policies": map[string]any{"enabled": true},
			"postgres": map[string]any{"meshed": meshed, "replica": map[string]any{"enabled": true}}})
		callees := chart.Services()
		if meshed {
			callees = append(callees, chart.Database)
			reads := o.Policies["MeshTLSAuthentication postgres-replica-callers"].Object["spec"].(map[string]any)["identityRefs"].([]any)
			writes := o.Policies["MeshTLSAuthentication postgres-callers"].Object["spec"].(map[string]any)["identityRefs"].([]any)
			require.Subset(t, writes, reads, "who reads from the replica may ask the primary, too")
			require.Len(t, writes, len(reads)+1, "which the replica itself follows")
			require.Equal(t, selector("postgres-replica", ""), labels(o.Policies["Server postgres-replica"].Object["spec"].(map[string]any)))
		}
		guarded := len(callees)
		if meshed {
			guarded++ // the replica
		}
		require.Len(t, o.Policies, 3*guarded+3)
		for _, callee := range callees {
			server := o.Policies["Server "+callee].Object["spec"].(map[string]any)
			require.Equal(t, selector(callee, ""), labels(server), "all versions of it")
			authentication := o.Policies["MeshTLSAuthentication "+callee+"-callers"].Object["spec"].(map[string]any)
			var want []any
			for _, caller := range append(chart.Services(), "nobody") {
				if chart.Allowed(caller, callee) {
					want = append(want, map[string]any{"kind": "ServiceAccount", "name": caller})
				}
			}
			if callee == chart.Database {
				want = append(want, map[string]any{"kind": "ServiceAccount", "name": "postgres-replica"})
			}
			require.ElementsMatch(t, want, authentication["identityRefs"], callee)
			policy := o.Policies["AuthorizationPolicy "+callee+"-callers"].Object["spec"].(map[string]any)
			require.Equal(t, map[string]any{"group": "policy.linkerd.io", "kind": "Server", "name": callee}, policy["targetRef"])
		}
		require.Equal(t, "grpc", o.Policies["Server order-processing"].Object["spec"].(map[string]any)["port"])
		require.Contains(t, o.Policies, "NetworkAuthentication shop-admin")
	}
}

func labels(server map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range server["podSelector"].(map[string]any)["matchLabels"].(map[string]any) {
		out[k] = v.(string)
	}
	return out
}

func TestEveryServiceIsCalledByThoseWhoNeedIt(t *testing.T) {
	// The shape of the shop, as its engineers draw it.
	want := map[string][]string{
		"product-catalog":        {"inventory-management", "recommendation-service"},
		"inventory-management":   {"order-processing"},
		"order-processing":       {"customer-profile", "product-catalog", "configuration-engine", "inventory-management", "payment-gateway", "analytics-service"},
		"customer-profile":       nil,
		"payment-gateway":        nil,
		"configuration-engine":   {"product-catalog", "inventory-management"},
		"recommendation-service": {"product-catalog", "customer-profile", "analytics-service"},
		"analytics-service":      nil,
	}
	got := map[string][]string{}
	for _, name := range chart.Services() {
		got[name] = nil
	}
	for _, e := range chart.Edges() {
		if e.Callee != chart.Database {
			got[e.Caller] = append(got[e.Caller], e.Callee)
		}
	}
	require.Equal(t, want, got)
}

package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/topology"
)

// render returns a chart's objects by "Kind/name".
func render(t *testing.T, c *chart.Chart, namespace, name string, values map[string]any) map[string]*unstructured.Unstructured {
	t.Helper()
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: name, Namespace: namespace, IsInstall: true}, nil)
	require.NoError(t, err)
	files, err := engine.Render(c, all)
	require.NoError(t, err)
	found := map[string]*unstructured.Unstructured{}
	for file, text := range files {
		if strings.HasSuffix(file, ".tpl") || strings.HasSuffix(file, ".txt") {
			continue
		}
		objects, err := kube.Decode([]byte(text))
		require.NoError(t, err, file)
		for _, u := range objects {
			found[u.GetKind()+"/"+u.GetName()] = u
		}
	}
	return found
}

func at(t *testing.T, u *unstructured.Unstructured, path ...any) any {
	t.Helper()
	require.NotNil(t, u)
	var v any = u.Object
	for _, step := range path {
		switch key := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			require.True(t, ok, "%v is no map at %v", v, key)
			v = m[key]
		case int:
			l, ok := v.([]any)
			require.True(t, ok && len(l) > key, "%v has no item %v", v, key)
			v = l[key]
		}
	}
	return v
}

func own(t *testing.T, name string) *chart.Chart {
	t.Helper()
	c, err := ownChart(name)
	require.NoError(t, err)
	return c
}

func TestVaultsChartRendersWithTheNamesOfHashiCorps(t *testing.T) {
	b := newBench(t)
	r, err := vault{}.release(b.Env)
	require.NoError(t, err)
	found := render(t, r.Chart, r.Namespace, r.Name, r.Values)
	set := found["StatefulSet/vault"]
	require.Equal(t, map[string]any{"app.kubernetes.io/name": "vault", "app.kubernetes.io/instance": "vault", "component": "server"},
		at(t, set, "spec", "selector", "matchLabels"))
	require.Contains(t, found, "Service/vault")
	require.Equal(t, true, at(t, found["Service/vault-internal"], "spec", "publishNotReadyAddresses"))
	require.Equal(t, "meshsim.local/vault:v1", at(t, set, "spec", "template", "spec", "containers", 0, "image"))
	require.Equal(t, []any{"/bin/vault"}, at(t, set, "spec", "template", "spec", "containers", 0, "command"))
	require.Equal(t, map[string]any{"requests": map[string]any{"cpu": "25m", "memory": "128Mi"}, "limits": map[string]any{"memory": "1024Mi"}},
		at(t, set, "spec", "template", "spec", "containers", 0, "resources"))
	require.Equal(t, "disabled", at(t, set, "spec", "template", "metadata", "annotations", "linkerd.io/inject"))
	claim := at(t, set, "spec", "volumeClaimTemplates", 0, "spec").(map[string]any)
	require.Equal(t, "gp3", claim["storageClassName"])
	require.Equal(t, map[string]any{"requests": map[string]any{"storage": "10Gi"}}, claim["resources"])
	require.Equal(t, r.Values["config"], at(t, found["ConfigMap/vault-config"], "data", "vault.hcl"), "the configuration arrives as written")
	require.Equal(t, "system:auth-delegator", at(t, found["ClusterRoleBinding/vault-server-binding"], "roleRef", "name"))
	env := map[string]any{}
	for _, e := range at(t, set, "spec", "template", "spec", "containers", 0, "env").([]any) {
		e := e.(map[string]any)
		env[e["name"].(string)] = e["value"]
	}
	require.Equal(t, "https://$(POD_NAME).vault-internal:8201", env["VAULT_CLUSTER_ADDR"])
	require.Contains(t, env, "VAULT_RAFT_NODE_ID")
	require.Equal(t, "not-a-secret", env["AWS_SECRET_ACCESS_KEY"])
}

func TestHashiCorpsChartIsUsedWhereTheBundleHasIt(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "vault")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: vault\nversion: 0.30.0\n"), 0o644))
	b.Env.Images = fakeImages{charts: map[string]string{"vault": dir}}
	b.Env.Values = map[string]map[string]any{"vault": {"server": map[string]any{"logLevel": "debug"}}}
	r, err := vault{}.release(b.Env)
	require.NoError(t, err)
	require.Equal(t, "0.30.0", r.Chart.Metadata.Version)
	server := r.Values["server"].(map[string]any)
	raft := server["ha"].(map[string]any)["raft"].(map[string]any)
	require.Contains(t, raft["config"], `path                   = "/vault/data"`)
	require.Contains(t, raft["config"], `tls_cert_file   = "/vault/userconfig/vault-tls/tls.crt"`)
	require.Equal(t, 1, server["ha"].(map[string]any)["replicas"])
	require.Equal(t, "debug", server["logLevel"])
	require.Equal(t, map[string]any{"enabled": false}, r.Values["injector"])
}

func TestPrometheusScrapesProxiesByTheirAdminPort(t *testing.T) {
	b := newBench(t)
	require.NoError(t, monitoring{}.Install(t.Context(), b.Env))
	found := render(t, own(t, "monitoring"), "monitoring", "monitoring", b.releases.values["monitoring"])
	var config struct {
		Global struct {
			Interval string `json:"scrape_interval"`
		} `json:"global"`
		Jobs []struct {
			Name    string `json:"job_name"`
			Relabel []struct {
				Action  string   `json:"action"`
				Sources []string `json:"source_labels"`
				Regex   string   `json:"regex"`
				Target  string   `json:"target_label"`
			} `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}
	text := at(t, found["ConfigMap/prometheus"], "data", "prometheus.yml").(string)
	require.NoError(t, yaml.Unmarshal([]byte(text), &config))
	require.Equal(t, "5s", config.Global.Interval)
	targets := map[string]string{}
	for _, job := range config.Jobs {
		if job.Name != "linkerd-proxy" {
			continue
		}
		require.Equal(t, "linkerd-proxy;linkerd-admin", job.Relabel[0].Regex)
		for _, r := range job.Relabel {
			if r.Target != "" {
				targets[r.Target] = r.Sources[0]
			}
		}
	}
	require.Equal(t, "__meta_kubernetes_pod_label_linkerd_io_proxy_deployment", targets["deployment"])
	require.Equal(t, "__meta_kubernetes_pod_label_linkerd_io_proxy_statefulset", targets["statefulset"])
	require.Equal(t, "__meta_kubernetes_pod_name", targets["pod"])
	require.Equal(t, "__meta_kubernetes_namespace", targets["namespace"])
	require.Contains(t, text, "http_sd_configs:\n  - url: http://127.0.0.1:9095/targets", "Debian's Prometheus is told by the sidecar")
	require.NotContains(t, text, "kubernetes_sd_configs")
	require.Equal(t, "meshsim.local/podtargets:v1", at(t, found["Deployment/prometheus"], "spec", "template", "spec", "containers", 1, "image"))
	args := at(t, found["Deployment/prometheus"], "spec", "template", "spec", "containers", 0, "args")
	require.Contains(t, args, "--storage.tsdb.retention.time=6h")
	require.Contains(t, found, "Service/prometheus")
	require.Contains(t, text, "rule_files: [/etc/prometheus/config/rules.yml]")
	require.Equal(t, []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"pods"}, "verbs": []any{"get", "list", "watch"}}},
		at(t, found["ClusterRole/meshsim-prometheus"], "rules"))
}

func TestPrometheusAlertsWhenACallIsRefused(t *testing.T) {
	b := newBench(t)
	require.NoError(t, monitoring{}.Install(t.Context(), b.Env))
	found := render(t, own(t, "monitoring"), "monitoring", "monitoring", b.releases.values["monitoring"])
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(at(t, found["ConfigMap/prometheus"], "data", "rules.yml").(string)), &rules))
	require.Len(t, rules.Groups, 1)
	for i, protocol := range []string{"http", "tcp"} {
		rule := rules.Groups[0].Rules[i]
		require.Equal(t, AlertUnauthorised, rule.Alert)
		require.Contains(t, rule.Expr, "sum by (namespace, deployment) (")
		require.Contains(t, rule.Expr, "inbound_"+protocol+"_authz_deny_total unless inbound_"+protocol+"_authz_deny_total offset 1m", "a first denial counts")
		require.Empty(t, rule.For, "at once")
		require.Equal(t, protocol, rule.Labels["protocol"])
		require.Equal(t, "{{ $labels.deployment }} in {{ $labels.namespace }} refused {{ $value }} unauthorised calls in a minute", rule.Annotations["summary"])
	}
}

func TestTheOfficialPrometheusFindsPodsItself(t *testing.T) {
	b := newBench(t)
	b.Env.Images = fakeImages{origin: "pulled", lacks: "podtargets"}
	v, err := monitoringValues(b.Env)
	require.NoError(t, err)
	found := render(t, own(t, "monitoring"), "monitoring", "monitoring", v)
	text := at(t, found["ConfigMap/prometheus"], "data", "prometheus.yml").(string)
	require.Contains(t, text, "kubernetes_sd_configs:\n  - role: pod")
	require.NotContains(t, text, "http_sd_configs")
	require.NoError(t, yaml.Unmarshal([]byte(text), &map[string]any{}))
	require.Len(t, at(t, found["Deployment/prometheus"], "spec", "template", "spec", "containers"), 1)
}

func TestMetricsServerIsRegisteredAsAnAPI(t *testing.T) {
	b := newBench(t)
	b.cluster.put(workloadReady("Deployment", namespaceSystem, "metrics-server"))
	b.cluster.put("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io", object{"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
		"status": object{"conditions": []any{object{"type": "Available", "status": "True"}}}})
	require.NoError(t, metricsServer{}.Install(t.Context(), b.Env))
	require.NoError(t, metricsServer{}.Ready(t.Context(), b.Env))
	found := render(t, own(t, "metrics-server"), "kube-system", "metrics-server", b.releases.values["metrics-server"])
	require.Equal(t, map[string]any{"name": "metrics-server", "namespace": "kube-system"}, at(t, found["APIService/v1beta1.metrics.k8s.io"], "spec", "service"))
	args := at(t, found["Deployment/metrics-server"], "spec", "template", "spec", "containers", 0, "args")
	require.Contains(t, args, "--kubelet-insecure-tls")
}

func TestOwnChartsRefuseToRenderWithoutAnImage(t *testing.T) {
	for _, name := range []string{"metrics-server", "monitoring", "vault"} {
		c := own(t, name)
		values, err := chartutil.ToRenderValues(c, map[string]any{"config": "x"}, chartutil.ReleaseOptions{Name: name, Namespace: "n"}, nil)
		require.NoError(t, err)
		_, err = engine.Render(c, values)
		require.ErrorContains(t, err, "image.repository", name)
	}
}

func TestCertManagerTakesItsImagesFromTheBundle(t *testing.T) {
	b := newBench(t)
	v, err := certManagerValues(b.Env)
	require.NoError(t, err)
	require.Equal(t, true, v["installCRDs"])
	require.Equal(t, "meshsim.local/cert-manager-controller", v["image"].(map[string]any)["repository"])
	require.Equal(t, "meshsim.local/cert-manager-webhook", v["webhook"].(map[string]any)["image"].(map[string]any)["repository"])
	require.Equal(t, "meshsim.local/cert-manager-cainjector", v["cainjector"].(map[string]any)["image"].(map[string]any)["repository"])
	require.Equal(t, map[string]any{"enabled": false}, v["startupapicheck"])
	require.Equal(t, "cert-manager", v["global"].(map[string]any)["leaderElection"].(map[string]any)["namespace"], "nothing stays behind in kube-system")
	require.Equal(t, map[string]any{"aggregateClusterRoles": false}, v["global"].(map[string]any)["rbac"], "developers get no part of the mesh's issuer")
	b.Env.Images = fakeImages{lacks: "cert-manager-webhook"}
	_, err = certManagerValues(b.Env)
	require.ErrorContains(t, err, "cert-manager-webhook is not in the bundle")
}

func TestSplitReference(t *testing.T) {
	tests := map[string]struct{ ref, repository, tag, err string }{
		"built here":                  {ref: "meshsim.local/vault:1.19.0", repository: "meshsim.local/vault", tag: "1.19.0"},
		"a registry with a port":      {ref: "localhost:5000/vault:1", repository: "localhost:5000/vault", tag: "1"},
		"a digest behind the tag":     {ref: "quay.io/a/b:v1@sha256:00", repository: "quay.io/a/b", tag: "v1"},
		"a port but no tag":           {ref: "localhost:5000/vault", err: "has no tag"},
		"no tag":                      {ref: "vault", err: "has no tag"},
		"an empty tag":                {ref: "vault:", err: "has no tag"},
		"a tag of nothing":            {ref: ":1", err: "has no tag"},
		"a digest in the tag's place": {ref: "vault@sha256:00", err: "has no tag"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			repository, tag, err := splitReference(tc.ref)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.repository, repository)
			require.Equal(t, tc.tag, tag)
		})
	}
}

func FuzzSplitReference(f *testing.F) {
	f.Add("meshsim.local/vault:1.19.0")
	f.Add("localhost:5000/vault@sha256:00")
	f.Fuzz(func(t *testing.T, ref string) {
		repository, tag, err := splitReference(ref)
		if err == nil && (repository == "" || tag == "" || strings.Contains(tag, "/") || !strings.HasPrefix(ref, repository+":"+tag)) {
			t.Fatalf("%q became %q and %q", ref, repository, tag)
		}
	})
}

func TestResourcesAreFittedButNeverToNothing(t *testing.T) {
	require.Equal(t, 100, scaled(100, 0), "no factor is one")
	require.Equal(t, 100, scaled(100, 2))
	require.Equal(t, 8, scaled(100, 0.083))
	require.Equal(t, 1, scaled(2, 0.001))
	require.Equal(t, map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "32Mi"}, "limits": map[string]any{"memory": "128Mi"}},
		resources(topology.Fit{CPU: 0.1, Memory: 0.5}, 100, 64, 128))
}

func TestOverridesGoOverAndLeaveTheGivenValuesAlone(t *testing.T) {
	given := map[string]any{"image": map[string]any{"tag": "v9"}}
	env := &Env{Values: map[string]map[string]any{"x": given}}
	merged := withOverrides(env, "x", map[string]any{"image": map[string]any{"tag": "v1", "repository": "r"}, "other": 1})
	require.Equal(t, map[string]any{"image": map[string]any{"tag": "v9", "repository": "r"}, "other": 1}, merged)
	require.Equal(t, map[string]any{"image": map[string]any{"tag": "v9"}}, given)
}

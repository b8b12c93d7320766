package injector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
)

var update = flag.Bool("update", false, "write the golden files anew")

const values = `
clusterDomain: cluster.local
clusterNetworks: 10.0.0.0/8
image: {repository: meshsim.local/fakemesh, tag: "0.1"}
proxy:
  await: true
  defaultInboundPolicy: all-unauthenticated
  logLevel: warn,linkerd=info
  opaquePorts: "25,5432"
  shutdownGracePeriod: 2m
  cores: 1
  inboundConnectTimeout: 100ms
  outboundConnectTimeout: 1000ms
  readinessInitialDelaySeconds: 2
  resources: {cpu: {request: 100m}, memory: {request: 20Mi, limit: 250Mi}}
webhookFailurePolicy: Fail
`

// cluster answers with one namespace, or not at all.
type cluster struct {
	annotations map[string]string
	err         error
}

func (c cluster) Namespace(_ context.Context, name string) (*corev1.Namespace, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: c.annotations}}, c.err
}

// owners finds every pod's Deployment, unless the pod is a Job's.
type owners struct{ err error }

func (o owners) Of(_ context.Context, _ string, meta *metav1.ObjectMeta) (kubeapi.Owner, error) {
	if ref := metav1.GetControllerOf(meta); ref != nil && ref.Kind != "ReplicaSet" {
		return kubeapi.Owner{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name}, o.err
	}
	return kubeapi.Owner{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, o.err
}

// diary keeps events.
type diary struct{ lines []string }

func (d *diary) Normal(ref *corev1.ObjectReference, reason, message string) {
	d.lines = append(d.lines, "Normal "+ref.Kind+"/"+ref.Name+" "+reason+": "+message)
}

func webhook(t *testing.T, c cluster) (*Webhook, *diary) {
	t.Helper()
	dir, d := t.TempDir(), &diary{}
	w := &Webhook{
		ConfigFile: filepath.Join(dir, "values"), AnchorsFile: filepath.Join(dir, "anchors"), Namespace: "linkerd",
		Cluster: c, Owners: owners{}, Recorder: d, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	require.NoError(t, os.WriteFile(w.ConfigFile, []byte(values), 0o600))
	require.NoError(t, os.WriteFile(w.AnchorsFile, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600))
	return w, d
}

func review(t *testing.T, w *Webhook, pod []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	return w.Review(context.Background(), &admissionv1.AdmissionRequest{
		Namespace: "prod-app", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Object: runtime.RawExtension{Raw: pod},
	})
}

func readPod(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".in.yaml"))
	require.NoError(t, err)
	raw, err := yaml.YAMLToJSONStrict(text)
	require.NoError(t, err)
	return raw
}

func TestTheProxyLooksForItsControlPlaneWhereTheChartWasInstalled(t *testing.T) {
	w, _ := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
	w.Namespace = "mesh"
	raw := readPod(t, "deployment")
	p, err := jsonpatch.DecodePatch(review(t, w, raw).Patch)
	require.NoError(t, err)
	patched, err := p.Apply(raw)
	require.NoError(t, err)
	var pod corev1.Pod
	require.NoError(t, yaml.Unmarshal(patched, &pod))
	require.Equal(t, "mesh", pod.Labels[contract.LabelControlPlaneNS])
	env := map[string]string{}
	for _, c := range pod.Spec.Containers {
		for _, e := range c.Env {
			env[e.Name] = e.Value
		}
	}
	require.Equal(t, "linkerd-identity-headless.mesh.svc.cluster.local:8080", env[contract.EnvIdentityAddr])
	require.Equal(t, "linkerd-dst-headless.mesh.svc.cluster.local:8086", env[contract.EnvDestinationAddr])
	require.Equal(t, "linkerd-policy.mesh.svc.cluster.local:8090", env[contract.EnvPolicyAddr])
	for name, account := range map[string]string{
		contract.EnvIdentityName: "linkerd-identity", contract.EnvDestinationName: "linkerd-destination", contract.EnvPolicyName: "linkerd-destination",
	} {
		require.Equal(t, account+".mesh.serviceaccount.identity.mesh.cluster.local", env[name])
	}
	require.Equal(t, "$("+contract.EnvPodSA+").$("+contract.EnvPodNamespace+").serviceaccount.identity.mesh.cluster.local", env[contract.EnvLocalName])
}

func TestPodsAreInjectedAsTheGoldenFilesShow(t *testing.T) {
	inject := map[string]string{"linkerd.io/inject": "enabled"}
	for name, ns := range map[string]map[string]string{
		"deployment": inject,
		"overrides":  inject,
		"bare":       nil,
		"job":        inject,
		"ingress":    {"linkerd.io/inject": "ingress"},
		"inherited": {
			"linkerd.io/inject": "enabled", "config.linkerd.io/default-inbound-policy": "cluster-authenticated",
			"config.linkerd.io/skip-inbound-ports": "8080", "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "8", "unrelated": "x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, d := webhook(t, cluster{annotations: ns})
			raw := readPod(t, name)
			res := review(t, w, raw)
			require.True(t, res.Allowed)
			require.NotNil(t, res.PatchType)
			p, err := jsonpatch.DecodePatch(res.Patch)
			require.NoError(t, err)
			patched, err := p.Apply(raw)
			require.NoError(t, err)
			require.NoError(t, yaml.UnmarshalStrict(patched, &corev1.Pod{}), "it is still a pod")
			got, err := yaml.JSONToYAML(patched)
			require.NoError(t, err)
			golden := filepath.Join("testdata", name+".out.yaml")
			if *update {
				require.NoError(t, os.WriteFile(golden, got, 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
			require.Len(t, d.lines, 1)
			require.Contains(t, d.lines[0], "Injected: the proxy was injected")
		})
	}
}

func TestPodsThatStayAsTheyAre(t *testing.T) {
	pod := func(change func(*corev1.Pod)) []byte {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}}
		change(p)
		raw, err := json.Marshal(p)
		require.NoError(t, err)
		return raw
	}
	annotate := func(value string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{"linkerd.io/inject": value} }
	}
	enabled := map[string]string{"linkerd.io/inject": "enabled"}
	for name, tc := range map[string]struct {
		ns   map[string]string
		pod  func(*corev1.Pod)
		says string
	}{
		"nobody asked":                           {nil, func(*corev1.Pod) {}, "neither the pod nor its namespace has the annotation linkerd.io/inject: enabled"},
		"the pod does not want":                  {enabled, annotate("disabled"), "linkerd.io/inject: disabled on the pod"},
		"the namespace says so":                  {map[string]string{"linkerd.io/inject": "disabled"}, func(*corev1.Pod) {}, "linkerd.io/inject: disabled on the namespace"},
		"a value nobody knows":                   {enabled, annotate("yes"), `the pod's annotation linkerd.io/inject has the unknown value "yes"`},
		"a value nobody knows, of the namespace": {map[string]string{"linkerd.io/inject": "true"}, annotate("enabled"), `the namespace's annotation linkerd.io/inject has the unknown value "true"`},
		"the host's network":                     {enabled, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "hostNetwork"},
		"a proxy is there": {enabled, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "linkerd-proxy"})
		}, "has a proxy already"},
		"an init container is there": {enabled, func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "linkerd-init"}} }, "has a proxy already"},
	} {
		t.Run(name, func(t *testing.T) {
			w, d := webhook(t, cluster{annotations: tc.ns})
			res := review(t, w, pod(tc.pod))
			require.True(t, res.Allowed)
			require.Empty(t, res.Patch)
			require.Len(t, d.lines, 1)
			require.Contains(t, d.lines[0], "Normal Deployment/web InjectionSkipped: ")
			require.Contains(t, d.lines[0], tc.says)
		})
	}
}

func TestWishesThatMakeNoSenseAreToldInTheLogAndTheDefaultsStay(t *testing.T) {
	for annotation, value := range map[string]string{
		"config.linkerd.io/default-inbound-policy":               "everyone",
		"config.linkerd.io/opaque-ports":                         "mysql",
		"config.linkerd.io/proxy-await":                          "yes",
		"config.linkerd.io/shutdown-grace-period":                "soon",
		"config.linkerd.io/proxy-inbound-connect-timeout":        "1",
		"config.linkerd.io/proxy-outbound-connect-timeout":       "-1s",
		"config.linkerd.io/proxy-cpu-request":                    "half",
		"config.linkerd.io/proxy-memory-limit":                   "lots",
		"config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "-1",
	} {
		t.Run(annotation, func(t *testing.T) {
			c, err := ParseConfig([]byte(values))
			require.NoError(t, err)
			plain, none := settingsFor(c, nil, nil)
			require.Empty(t, none)
			for _, where := range [][2]map[string]string{{{annotation: value}, nil}, {nil, {annotation: value}}} {
				got, ignored := settingsFor(c, where[0], where[1])
				require.Equal(t, plain, got)
				require.Len(t, ignored, 1)
				require.Contains(t, ignored[0], "annotation "+annotation+": ")
			}

			w, d := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
			var log bytes.Buffer
			w.Log = slog.New(slog.NewTextHandler(&log, nil))
			raw, err := json.Marshal(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotation: value}}})
			require.NoError(t, err)
			require.NotEmpty(t, review(t, w, raw).Patch)
			require.Contains(t, log.String(), "annotation "+annotation)
			require.Contains(t, d.lines[0], "Injected")
		})
	}
}

func TestAmountsOfTheValuesThatAreNoQuantityAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, says string }{
		"the proxy's memory limit":         {"limit: 250Mi", "limit: 250M1", `proxy.resources.memory.limit: "250M1" is no quantity`},
		"the proxy's CPU request":          {"request: 100m", "request: 100 m", `proxy.resources.cpu.request: "100 m" is no quantity`},
		"the init container's CPU limit":   {"webhookFailurePolicy", "proxyInit: {resources: {cpu: {limit: fast}}}\nx", `proxyInit.resources.cpu.limit: "fast" is no quantity`},
		"the init container's memory":      {"webhookFailurePolicy", "proxyInit: {resources: {memory: {request: 1e}}}\nx", `proxyInit.resources.memory.request: "1e" is no quantity`},
		"one of them, with the other told": {"20Mi, limit: 250Mi", "many, limit: more", `proxy.resources.memory.limit: "more" is no quantity`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(values, tc.old, tc.new, 1)
			require.NotEqual(t, values, text)
			_, err := ParseConfig([]byte(text))
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestPortsToSkipThatMakeNoSenseReachTheInitContainerWhichDoesNotAcceptThem(t *testing.T) {
	c, err := ParseConfig([]byte(values))
	require.NoError(t, err)
	s, ignored := settingsFor(c, map[string]string{"config.linkerd.io/skip-inbound-ports": "99999", "config.linkerd.io/skip-outbound-ports": "5-4"}, nil)
	require.Empty(t, ignored)
	args := initContainer(input{config: c}, s).Args
	require.Contains(t, args, "--inbound-ports-to-ignore=4190,4191,99999")
	require.Contains(t, args, "--outbound-ports-to-ignore=5-4")
}

func TestServicesInheritOpaquePorts(t *testing.T) {
	port := func(port int32, target intstr.IntOrString) corev1.ServicePort {
		return corev1.ServicePort{Port: port, TargetPort: target}
	}
	for name, tc := range map[string]struct {
		own, namespace map[string]string
		ports          []corev1.ServicePort
		want           string
	}{
		"of the namespace":                      {nil, map[string]string{"config.linkerd.io/opaque-ports": "6432"}, []corev1.ServicePort{port(80, intstr.IntOrString{})}, "6432"},
		"not when it has its own":               {map[string]string{"config.linkerd.io/opaque-ports": ""}, map[string]string{"config.linkerd.io/opaque-ports": "6432"}, nil, ""},
		"of the mesh, as far as it leads there": {nil, nil, []corev1.ServicePort{port(80, intstr.FromInt32(8080)), port(15432, intstr.FromInt32(5432)), port(25, intstr.IntOrString{})}, "15432,25"},
		"none where it leads to none":           {nil, nil, []corev1.ServicePort{port(5432, intstr.FromString("pg")), port(80, intstr.FromInt32(8080))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, d := webhook(t, cluster{annotations: tc.namespace})
			raw, err := json.Marshal(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db", Annotations: tc.own}, Spec: corev1.ServiceSpec{Ports: tc.ports}})
			require.NoError(t, err)
			res := w.Review(context.Background(), &admissionv1.AdmissionRequest{
				Namespace: "prod-app", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Service"}, Object: runtime.RawExtension{Raw: raw},
			})
			require.True(t, res.Allowed)
			require.Empty(t, d.lines)
			if tc.want == "" {
				require.Empty(t, res.Patch)
				return
			}
			p, err := jsonpatch.DecodePatch(res.Patch)
			require.NoError(t, err)
			patched, err := p.Apply(raw)
			require.NoError(t, err)
			var svc corev1.Service
			require.NoError(t, json.Unmarshal(patched, &svc))
			require.Equal(t, tc.want, svc.Annotations["config.linkerd.io/opaque-ports"])
		})
	}
}

func TestAPodWithoutAProxyStillTellsItsOpaquePorts(t *testing.T) {
	w, d := webhook(t, cluster{})
	raw := []byte(`{"spec":{"containers":[{"name":"db","ports":[{"containerPort":5432},{"containerPort":8080}]}]}}`)
	res := review(t, w, raw)
	require.JSONEq(t, `[{"op":"add","path":"/metadata/annotations","value":{}},
		{"op":"add","path":"/metadata/annotations/config.linkerd.io~1opaque-ports","value":"5432"}]`, string(res.Patch))
	require.Contains(t, d.lines[0], "InjectionSkipped")
}

func TestAPodOfAKindOfOwnerThatNoLabelNamesHasNone(t *testing.T) {
	for kind, want := range map[string]string{
		"Deployment": "linkerd.io/proxy-deployment", "StatefulSet": "linkerd.io/proxy-statefulset", "DaemonSet": "linkerd.io/proxy-daemonset",
		"Job": "linkerd.io/proxy-job", "ReplicaSet": "linkerd.io/proxy-replicaset", "ReplicationController": "linkerd.io/proxy-replicationcontroller",
		"Pod": "", "Rollout": "",
	} {
		got := labels(input{namespace: "prod-app", mesh: "linkerd", owner: kubeapi.Owner{Kind: kind, Name: "web"}})
		wantAll := map[string]string{"linkerd.io/control-plane-ns": "linkerd", "linkerd.io/workload-ns": "prod-app"}
		if want != "" {
			wantAll[want] = "web"
		}
		require.Equal(t, wantAll, got, kind)
	}
}

func TestADryRunLeavesNoEvent(t *testing.T) {
	w, d := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
	dry := true
	res := w.Review(context.Background(), &admissionv1.AdmissionRequest{
		Namespace: "prod-app", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Object: runtime.RawExtension{Raw: readPod(t, "deployment")}, DryRun: &dry,
	})
	require.NotEmpty(t, res.Patch)
	require.Empty(t, d.lines)
}

func TestTroubleIsARefusalSoThatTheFailurePolicyDoesNotHideIt(t *testing.T) {
	w, _ := webhook(t, cluster{err: errors.New("no API server")})
	require.False(t, review(t, w, []byte(`{}`)).Allowed)
	w, _ = webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
	require.False(t, review(t, w, []byte(`{"spec":5}`)).Allowed)
	w.ConfigFile += ".gone"
	require.False(t, review(t, w, []byte(`{}`)).Allowed)
}

func TestAPodWhoseOwnerIsNotKnownIsStillInjected(t *testing.T) {
	w, _ := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
	w.Owners = owners{errors.New("not allowed")}
	require.NotEmpty(t, review(t, w, []byte(`{"spec":{"containers":[{"name":"app"}]}}`)).Patch)
}

func TestTheWebhookSpeaksAdmissionReview(t *testing.T) {
	w, _ := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
	server := httptest.NewServer(w)
	defer server.Close()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u-1", Namespace: "prod-app", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Object: runtime.RawExtension{Raw: readPod(t, "deployment")},
		},
	})
	require.NoError(t, err)
	res, err := http.Post(server.URL, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer res.Body.Close()
	var answer admissionv1.AdmissionReview
	require.NoError(t, json.NewDecoder(res.Body).Decode(&answer))
	require.Equal(t, "AdmissionReview", answer.Kind)
	require.EqualValues(t, "u-1", answer.Response.UID)
	require.True(t, answer.Response.Allowed)
	require.NotEmpty(t, answer.Response.Patch)

	for _, bad := range []string{"", "{}", "nonsense"} {
		res, err := http.Post(server.URL, "application/json", bytes.NewReader([]byte(bad)))
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
	}
}

func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"app","livenessProbe":{"httpGet":{"path":"/x","port":"http"}}}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"config.linkerd.io/opaque-ports":"1-2"}}}`))
	config, err := ParseConfig([]byte(values))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		pod := &corev1.Pod{}
		if json.Unmarshal(raw, pod) != nil {
			return
		}
		ops, _ := patch(input{config: config, anchors: "pem", pod: pod, namespace: "prod-app"})
		if _, err := json.Marshal(ops); err != nil {
			t.Fatal(err)
		}
	})
}

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
	"testing"

	"github.com/stretchr/testify/require"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

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

// owners finds every pod's Deployment.
type owners struct{ err error }

func (o owners) Of(context.Context, string, *metav1.ObjectMeta) (kubeapi.Owner, error) {
	return kubeapi.Owner{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, o.err
}

// diary keeps events.
type diary struct{ lines []string }

func (d *diary) Normal(ref *corev1.ObjectReference, reason, message string) {
	d.lines = append(d.lines, "Normal "+ref.Kind+"/"+ref.Name+" "+reason+": "+message)
}

func (d *diary) Warning(ref *corev1.ObjectReference, reason, message string) {
	d.lines = append(d.lines, "Warning "+ref.Kind+"/"+ref.Name+" "+reason+": "+message)
}

func webhook(t *testing.T, c cluster) (*Webhook, *diary) {
	t.Helper()
	dir, d := t.TempDir(), &diary{}
	w := &Webhook{
		ConfigFile: filepath.Join(dir, "values"), AnchorsFile: filepath.Join(dir, "anchors"),
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

func TestPodsAreInjectedAsTheGoldenFilesShow(t *testing.T) {
	inject := map[string]string{"linkerd.io/inject": "enabled"}
	for name, ns := range map[string]map[string]string{
		"deployment": inject,
		"overrides":  inject,
		"bare":       nil,
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
			require.Equal(t, []string{"Normal Deployment/web Injected: the proxy was injected"}, d.lines)
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
		"nobody asked":          {nil, func(*corev1.Pod) {}, "neither the pod nor its namespace has the annotation linkerd.io/inject: enabled"},
		"the pod does not want": {enabled, annotate("disabled"), "linkerd.io/inject: disabled on the pod"},
		"the namespace says so": {map[string]string{"linkerd.io/inject": "disabled"}, func(*corev1.Pod) {}, "linkerd.io/inject: disabled on the namespace"},
		"a value nobody knows":  {enabled, annotate("yes"), `the pod's annotation linkerd.io/inject has the unknown value "yes"`},
		"the host's network":    {enabled, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "hostNetwork"},
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

func TestPodsWhoseWishesMakeNoSenseAreRefused(t *testing.T) {
	for annotation, value := range map[string]string{
		"config.linkerd.io/default-inbound-policy":               "everyone",
		"config.linkerd.io/opaque-ports":                         "mysql",
		"config.linkerd.io/skip-inbound-ports":                   "99999",
		"config.linkerd.io/skip-outbound-ports":                  "5-4",
		"config.linkerd.io/proxy-await":                          "yes",
		"config.linkerd.io/shutdown-grace-period":                "soon",
		"config.linkerd.io/proxy-cpu-request":                    "half",
		"config.linkerd.io/proxy-memory-limit":                   "lots",
		"config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "-1",
	} {
		t.Run(annotation, func(t *testing.T) {
			w, d := webhook(t, cluster{annotations: map[string]string{"linkerd.io/inject": "enabled"}})
			raw, err := json.Marshal(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotation: value}}})
			require.NoError(t, err)
			res := review(t, w, raw)
			require.False(t, res.Allowed)
			require.Contains(t, res.Result.Message, "annotation "+annotation)
			require.Contains(t, d.lines[0], "Warning Deployment/web InjectionSkipped")
		})
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
		ops, err := patch(input{config: config, anchors: "pem", pod: pod, namespace: "prod-app"})
		if err != nil {
			return
		}
		if _, err := json.Marshal(ops); err != nil {
			t.Fatal(err)
		}
	})
}

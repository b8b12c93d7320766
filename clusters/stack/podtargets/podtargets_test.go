package podtargets

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const twoPods = `{"kind":"PodList","items":[
 {"metadata":{"name":"catalog-1","namespace":"prod-app",
   "labels":{"linkerd.io/proxy-deployment":"product-catalog"},"annotations":{"prometheus.io/scrape":"true"}},
  "spec":{"nodeName":"worker","containers":[
   {"name":"app","ports":[{"name":"admin","containerPort":8081,"protocol":"TCP"}]},
   {"name":"linkerd-proxy","ports":[{"name":"linkerd-proxy","containerPort":4143},{"name":"linkerd-admin","containerPort":4191}]}]},
  "status":{"phase":"Running","podIP":"10.0.0.7"}},
 {"metadata":{"name":"pending"},"spec":{"containers":[{"name":"app","ports":[{"containerPort":1}]}]},"status":{"phase":"Pending"}}]}`

func TestEachPortOfAPodIsATargetWithThePodsLabels(t *testing.T) {
	groups, err := Groups([]byte(twoPods))
	require.NoError(t, err)
	require.Len(t, groups, 3, "a pod without an address has no targets")
	require.Equal(t, Group{
		Targets: []string{"10.0.0.7:4191"},
		Labels: map[string]string{
			"__meta_kubernetes_namespace":                             "prod-app",
			"__meta_kubernetes_pod_name":                              "catalog-1",
			"__meta_kubernetes_pod_ip":                                "10.0.0.7",
			"__meta_kubernetes_pod_phase":                             "Running",
			"__meta_kubernetes_pod_node_name":                         "worker",
			"__meta_kubernetes_pod_container_name":                    "linkerd-proxy",
			"__meta_kubernetes_pod_container_port_name":               "linkerd-admin",
			"__meta_kubernetes_pod_container_port_number":             "4191",
			"__meta_kubernetes_pod_container_port_protocol":           "",
			"__meta_kubernetes_pod_label_linkerd_io_proxy_deployment": "product-catalog",
			"__meta_kubernetes_pod_annotation_prometheus_io_scrape":   "true",
		},
	}, groups[2])
}

func TestNoPodsIsAnEmptyListAndNotNull(t *testing.T) {
	groups, err := Groups([]byte(`{"items":[]}`))
	require.NoError(t, err)
	text, err := json.Marshal(groups)
	require.NoError(t, err)
	require.Equal(t, "[]", string(text))
}

func FuzzGroups(f *testing.F) {
	f.Add([]byte(twoPods))
	f.Add([]byte(`{"items":[{"status":{"podIP":"::1"},"spec":{"containers":[{"ports":[{"containerPort":-1}]}]}}]}`))
	f.Fuzz(func(t *testing.T, list []byte) {
		groups, err := Groups(list)
		if err != nil {
			return
		}
		for _, g := range groups {
			if len(g.Targets) != 1 || g.Labels["__meta_kubernetes_pod_ip"] == "" {
				t.Fatalf("a target without an address: %v", g)
			}
		}
	})
}

func source(t *testing.T, handler http.HandlerFunc) *Source {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("jwt\n"), 0o600))
	return &Source{URL: s.URL, TokenFile: token, HTTP: s.Client()}
}

func TestTargetsAreReadWithThePodsTokenEachTime(t *testing.T) {
	s := source(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "Bearer jwt", r.Header.Get("Authorization"))
		require.Equal(t, "/api/v1/pods?resourceVersion=0", r.URL.String())
		fmt.Fprint(w, twoPods)
	})
	w := httptest.NewRecorder()
	Handler(s, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/targets", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var groups []Group
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &groups))
	require.Len(t, groups, 3)
}

func TestAnAPIServerThatRefusesGivesNoEmptyListButAnError(t *testing.T) {
	s := source(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	w := httptest.NewRecorder()
	Handler(s, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/targets", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code, "Prometheus keeps the targets it has")
	_, err := s.List(t.Context())
	require.EqualError(t, err, "list pods: the API server answers 403 Forbidden")
}

func TestOutsideAPodItSaysSo(t *testing.T) {
	_, err := InCluster(func(string) string { return "" })
	require.ErrorContains(t, err, "this runs in a pod")
}

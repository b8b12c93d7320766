package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// apiServer answers discovery and remembers every other request.
type apiServer struct {
	*httptest.Server
	mu          sync.Mutex
	calls       []call
	discoveries int // how often the groups were asked for
	hasCRD      bool
	respond     func(w http.ResponseWriter, r *http.Request) bool // true when it has answered
}

type call struct {
	Method, Path, Query, ContentType, Body string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) client(t *testing.T) *Client {
	t.Helper()
	c, err := ForConfig(&rest.Config{Host: s.URL})
	require.NoError(t, err)
	c.poll = time.Millisecond
	return c
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if doc, ok := s.discovery(r.URL.Path); ok {
		fmt.Fprint(w, doc)
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.calls = append(s.calls, call{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type"), string(body)})
	respond := s.respond
	s.mu.Unlock()
	if respond != nil && respond(w, r) {
		return
	}
	if len(body) == 0 || r.Method == http.MethodDelete {
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
		return
	}
	w.Write(body)
}

func (s *apiServer) discovery(path string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := `{"name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}`
	if s.hasCRD {
		groups += `,{"name":"cert-manager.io","versions":[{"groupVersion":"cert-manager.io/v1","version":"v1"}],"preferredVersion":{"groupVersion":"cert-manager.io/v1","version":"v1"}}`
	}
	docs := map[string]string{
		"/api":  `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[` + groups + `]}`,
		"/api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[
			{"name":"namespaces","singularName":"","namespaced":false,"kind":"Namespace","verbs":["get"]},
			{"name":"configmaps","singularName":"","namespaced":true,"kind":"ConfigMap","verbs":["get"]}]}`,
		"/apis/apps/v1": `{"kind":"APIResourceList","groupVersion":"apps/v1","resources":[
			{"name":"deployments","singularName":"","namespaced":true,"kind":"Deployment","verbs":["get"]}]}`,
		"/apis/cert-manager.io/v1": `{"kind":"APIResourceList","groupVersion":"cert-manager.io/v1","resources":[
			{"name":"issuers","singularName":"","namespaced":true,"kind":"Issuer","verbs":["get"]}]}`,
	}
	doc, ok := docs[path]
	if path == "/apis" {
		s.discoveries++
	}
	return doc, ok
}

func (s *apiServer) setCRD() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasCRD = true
}

func (s *apiServer) recorded() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

const twoManifests = `
# a comment alone

---
apiVersion: v1
kind: Namespace
metadata: {name: vault}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {a: b}
`

func TestApplySendsServerSideApplyInOrderToTheRightPaths(t *testing.T) {
	s := newAPIServer(t)
	require.NoError(t, s.client(t).Apply(t.Context(), []byte(twoManifests), "prod-app"))
	calls := s.recorded()
	require.Len(t, calls, 2)
	require.Equal(t, "/api/v1/namespaces/vault", calls[0].Path)
	require.Equal(t, "/api/v1/namespaces/prod-app/configmaps/config", calls[1].Path)
	for _, c := range calls {
		require.Equal(t, http.MethodPatch, c.Method)
		require.Equal(t, "application/apply-patch+yaml", c.ContentType)
		q, err := url.ParseQuery(c.Query)
		require.NoError(t, err)
		require.Equal(t, []string{"meshsim"}, q["fieldManager"])
		require.Equal(t, []string{"true"}, q["force"])
	}
	var sent map[string]any
	require.NoError(t, json.Unmarshal([]byte(calls[1].Body), &sent))
	require.Equal(t, map[string]any{"a": "b"}, sent["data"])
}

func TestApplyFindsAKindThatWasInstalledAfterDiscovery(t *testing.T) {
	s := newAPIServer(t)
	c := s.client(t)
	issuer := []byte("apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: i}\n")
	err := c.Apply(t.Context(), issuer, "vault")
	require.ErrorContains(t, err, "find the API of Issuer i")
	s.setCRD()
	require.NoError(t, c.Apply(t.Context(), issuer, "vault"))
	require.Equal(t, "/apis/cert-manager.io/v1/namespaces/vault/issuers/i", s.recorded()[0].Path)
}

func TestApplyRefusesANamespacedObjectWithoutANamespace(t *testing.T) {
	s := newAPIServer(t)
	err := s.client(t).Apply(t.Context(), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"), "")
	require.EqualError(t, err, "ConfigMap x needs a namespace")
}

func TestDeleteGoesBackwardsAndTakesWhatIsGoneAsDone(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		return true
	}
	all := twoManifests + "---\napiVersion: nowhere.dev/v1\nkind: Unknown\nmetadata: {name: u}\n"
	require.NoError(t, s.client(t).Delete(t.Context(), []byte(all), "prod-app"))
	calls := s.recorded()
	require.Len(t, calls, 2)
	require.Equal(t, "/api/v1/namespaces/prod-app/configmaps/config", calls[0].Path)
	require.Equal(t, "/api/v1/namespaces/vault", calls[1].Path)
}

func TestDeleteAsksOnceWhichKindsThereAre(t *testing.T) {
	s := newAPIServer(t)
	c := s.client(t)
	unknown := "---\napiVersion: nowhere.dev/v1\nkind: Unknown\nmetadata: {name: u}\n"
	require.NoError(t, c.Delete(t.Context(), []byte(unknown), "prod-app"))
	one := s.discoveries
	require.Positive(t, one)
	require.NoError(t, c.Delete(t.Context(), []byte(strings.Repeat(unknown, 20)), "prod-app"))
	require.Equal(t, 2*one, s.discoveries)
}

func TestDeleteTellsEveryFailure(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}`)
		return true
	}
	err := s.client(t).Delete(t.Context(), []byte(twoManifests), "prod-app")
	require.ErrorContains(t, err, "delete ConfigMap config: no")
	require.ErrorContains(t, err, "delete Namespace vault: no")
}

func TestDryRunAsksTheServerToStoreNothing(t *testing.T) {
	s := newAPIServer(t)
	objects, err := Decode([]byte(twoManifests))
	require.NoError(t, err)
	out, err := s.client(t).DryRun(t.Context(), objects[1], "prod-app")
	require.NoError(t, err)
	require.Equal(t, "config", out.GetName())
	c := s.recorded()[0]
	require.Equal(t, http.MethodPost, c.Method)
	require.Contains(t, c.Query, "dryRun=All")
}

func TestDecode(t *testing.T) {
	tests := map[string]struct {
		in    string
		names []string
		err   string
	}{
		"nothing gives nothing":           {in: "\n---\n# only a comment\n", names: nil},
		"a List is taken apart":           {in: "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n", names: []string{"a", "b"}},
		"a broken document is numbered":   {in: "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n{", err: "manifest 2"},
		"an object without kind is named": {in: "apiVersion: v1\nmetadata: {name: a}\n", err: "kind is missing"},
		"an object without apiVersion":    {in: "kind: Pod\nmetadata: {name: a}\n", err: "apiVersion is missing"},
		"an object without a name":        {in: "apiVersion: v1\nkind: Pod\n", err: "Pod without metadata.name"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			objects, err := Decode([]byte(tc.in))
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, u := range objects {
				names = append(names, u.GetName())
			}
			require.Equal(t, tc.names, names)
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(twoManifests))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [1]\n"))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{kind: List, items: []}]\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		objects, err := Decode(in)
		if err != nil {
			return
		}
		for _, u := range objects {
			if u.GetKind() == "" || u.GetAPIVersion() == "" || u.GetName() == "" {
				t.Fatalf("an object without kind, apiVersion or name came through: %v", u)
			}
		}
	})
}

func TestServiceGetGoesThroughTheServiceProxy(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, "up 1")
		return true
	}
	body, err := s.client(t).ServiceGet(t.Context(), "monitoring", "prometheus:9090", "/api/v1/query", url.Values{"query": {"up{a=\"b\"}"}})
	require.NoError(t, err)
	require.Equal(t, "up 1", string(body))
	c := s.recorded()[0]
	require.Equal(t, "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query", c.Path)
	require.Equal(t, url.Values{"query": {"up{a=\"b\"}"}}.Encode(), c.Query)
}

func TestAKubeletIsAskedThroughItsNodesProxy(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, "{}")
		return true
	}
	body, err := s.client(t).KubeletSummary(t.Context(), "worker")
	require.NoError(t, err)
	require.Equal(t, "{}", string(body))
	require.Equal(t, "/api/v1/nodes/worker/proxy/stats/summary", s.recorded()[0].Path)
}

func TestTheAPIServersMetricsAreItsOwnText(t *testing.T) {
	s := newAPIServer(t)
	accept := ""
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		accept = r.Header.Get("Accept")
		if r.URL.Path != "/metrics" {
			return false
		}
		fmt.Fprint(w, "process_start_time_seconds 1\n")
		return true
	}
	body, err := s.client(t).APIServerMetrics(t.Context())
	require.NoError(t, err)
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "process_start_time_seconds 1\n", string(text))
	require.Equal(t, "text/plain", accept)

	s.respond = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	_, err = s.client(t).APIServerMetrics(t.Context())
	require.ErrorContains(t, err, "get the API server's metrics")
}

func TestPodGetKeepsTheAnswerOfARefusal(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"sealed":true}`)
		return true
	}
	body, err := s.client(t).PodGet(t.Context(), "vault", "https:vault-0:8200", "v1/sys/health")
	require.ErrorContains(t, err, "get v1/sys/health from pod vault/https:vault-0:8200")
	require.JSONEq(t, `{"sealed":true}`, string(body))
	require.Equal(t, "/api/v1/namespaces/vault/pods/https:vault-0:8200/proxy/v1/sys/health", s.recorded()[0].Path)
}

func TestLogsReturnsWhatTheContainerWrote(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		fmt.Fprint(w, "line 1\nline 2\n")
		return true
	}
	logs, err := s.client(t).Logs(t.Context(), "vault", "vault-0", "vault")
	require.NoError(t, err)
	require.Equal(t, "line 1\nline 2\n", string(logs))
	require.Equal(t, "container=vault", s.recorded()[0].Query)
}

func TestExecRefusedNamesTheProgramAndNothingElse(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"postgres-0\" not found","code":404}`)
		return true
	}
	c := s.client(t)
	_, _, err := c.Exec(t.Context(), "prod-app", "postgres-0", "postgres",
		[]string{"/usr/bin/psql", "--password=hunter2"}, strings.NewReader("hunter3"))
	require.ErrorContains(t, err, "exec psql in prod-app/postgres-0")
	require.NotContains(t, err.Error(), "hunter")
	require.Contains(t, s.recorded()[0].Query, "stdin=true")
	_, _, err = c.Exec(t.Context(), "prod-app", "postgres-0", "postgres", nil, nil)
	require.EqualError(t, err, "exec in prod-app/postgres-0: empty argv")
}

func TestDialRefusedSaysWhere(t *testing.T) {
	s := newAPIServer(t)
	s.respond = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	_, err := s.client(t).Dial(t.Context(), "vault", "vault-0", 8200)
	require.ErrorContains(t, err, "dial vault/vault-0:8200")
	require.Equal(t, "/api/v1/namespaces/vault/pods/vault-0/portforward", s.recorded()[0].Path)
}

func TestNewNamesTheKubeconfigItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	_, err := New(path)
	require.ErrorContains(t, err, "read kubeconfig "+path)
	require.ErrorIs(t, err, os.ErrNotExist)
}

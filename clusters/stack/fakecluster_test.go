package stack

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"meshsim.dev/meshsim/clusters/kube"
)

// object is a stored Kubernetes object.
type object = map[string]any

// fakeCluster is an API server in memory: it stores what is applied, created
// and updated by path, and deletes it. Hooks stand in for controllers.
type fakeCluster struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string]object // by path
	log     []string          // "VERB path", reads left out
	bodies  []string
	// stored is called for each object that is written, to play a controller.
	stored func(path string, o object)
	// fails says what a write is refused with, "" for nothing.
	fails func(method, path string) string
	// dryRun answers a dry-run create.
	dryRun func(path string, o object) (object, error)
}

// kinds that the fake serves: group/version → plural → kind; cluster-wide ones end in "!".
var servedKinds = map[string]map[string]string{
	"v1": {"namespaces": "Namespace!", "nodes": "Node!", "secrets": "Secret", "configmaps": "ConfigMap", "serviceaccounts": "ServiceAccount",
		"pods": "Pod", "services": "Service", "persistentvolumeclaims": "PersistentVolumeClaim", "events": "Event"},
	"apps/v1": {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"},
	"rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding",
		"clusterroles": "ClusterRole!", "clusterrolebindings": "ClusterRoleBinding!"},
	"cert-manager.io/v1":              {"certificates": "Certificate", "issuers": "Issuer", "clusterissuers": "ClusterIssuer!"},
	"apiextensions.k8s.io/v1":         {"customresourcedefinitions": "CustomResourceDefinition!"},
	"apiregistration.k8s.io/v1":       {"apiservices": "APIService!"},
	"coordination.k8s.io/v1":          {"leases": "Lease"},
	"policy/v1":                       {"poddisruptionbudgets": "PodDisruptionBudget"},
	"policy.linkerd.io/v1beta1":       {"servers": "Server"},
	"policy.linkerd.io/v1alpha1":      {"networkauthentications": "NetworkAuthentication", "authorizationpolicies": "AuthorizationPolicy"},
	"admissionregistration.k8s.io/v1": {"validatingwebhookconfigurations": "ValidatingWebhookConfiguration!", "mutatingwebhookconfigurations": "MutatingWebhookConfiguration!"},
}

func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{objects: map[string]object{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeCluster) client(t *testing.T) *kube.Client {
	t.Helper()
	c, err := kube.ForConfig(&rest.Config{Host: f.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	require.NoError(t, err)
	return c
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if doc := discoveryDoc(r.URL.Path); doc != nil {
		_ = json.NewEncoder(w).Encode(doc)
		return
	}
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method != http.MethodGet {
		f.log = append(f.log, r.Method+" "+r.URL.Path)
		f.bodies = append(f.bodies, string(body))
	}
	f.serve(w, r, body)
}

func (f *fakeCluster) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	path := r.URL.Path
	var in object
	_ = json.Unmarshal(body, &in)
	if f.fails != nil && r.Method != http.MethodGet {
		if why := f.fails(r.Method, path); why != "" {
			refuse(w, http.StatusForbidden, "Forbidden", why)
			return
		}
	}
	switch {
	case strings.HasSuffix(path, "/token"):
		_ = json.NewEncoder(w).Encode(object{"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
			"status": object{"token": "jwt-of-" + strings.Split(path, "/")[6]}})
	case r.Method == http.MethodPost && r.URL.Query().Get("dryRun") != "":
		out, err := in, error(nil)
		if f.dryRun != nil {
			out, err = f.dryRun(path, in)
		}
		if err != nil {
			refuse(w, http.StatusInternalServerError, "InternalError", err.Error())
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	case r.Method == http.MethodPost:
		f.write(w, path+"/"+nameOf(in), in)
	case r.Method == http.MethodPut:
		f.write(w, path, in)
	case r.Method == http.MethodPatch && r.Header.Get("Content-Type") == "application/merge-patch+json":
		f.write(w, path, mergePatch(deepCopy(f.objects[path]), in))
	case r.Method == http.MethodPatch:
		merged := deepCopy(f.objects[path])
		maps.Copy(merged, in)
		f.write(w, path, merged)
	case r.Method == http.MethodDelete:
		if f.objects[path] == nil {
			refuse(w, http.StatusNotFound, "NotFound", path+" not found")
			return
		}
		delete(f.objects, path)
		_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case f.objects[path] != nil:
		_ = json.NewEncoder(w).Encode(f.objects[path])
	case isCollection(path):
		gv, kind := collectionOf(path)
		_ = json.NewEncoder(w).Encode(object{"kind": kind + "List", "apiVersion": gv, "items": f.items(path)})
	default:
		refuse(w, http.StatusNotFound, "NotFound", path+" not found")
	}
}

func (f *fakeCluster) write(w http.ResponseWriter, path string, o object) {
	f.objects[path] = o
	if f.stored != nil {
		f.stored(path, o)
	}
	_ = json.NewEncoder(w).Encode(o)
}

// items lists what is stored right below a collection, by name.
func (f *fakeCluster) items(collection string) []any {
	found := []any{}
	for _, path := range slices.Sorted(maps.Keys(f.objects)) {
		if name, below := strings.CutPrefix(path, collection+"/"); below && !strings.Contains(name, "/") {
			found = append(found, f.objects[path])
		}
	}
	return found
}

// mergePatch is RFC 7386's: nothing for a key takes it away.
func mergePatch(into, patch object) object {
	for key, v := range patch {
		switch inner, ok := v.(object); {
		case v == nil:
			delete(into, key)
		case ok:
			below, _ := into[key].(object)
			if below == nil {
				below = object{}
			}
			into[key] = mergePatch(below, inner)
		default:
			into[key] = v
		}
	}
	return into
}

func nameOf(o object) string {
	meta, _ := o["metadata"].(object)
	name, _ := meta["name"].(string)
	return name
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"reason": reason, "message": message, "code": code})
}

func isCollection(path string) bool {
	gv, _ := collectionOf(path)
	return gv != ""
}

// collectionOf tells what a collection's items are, nothing for another path.
func collectionOf(path string) (groupVersion, kind string) {
	last := path[strings.LastIndexByte(path, '/')+1:]
	for gv, kinds := range servedKinds {
		if k, ok := kinds[last]; ok && (strings.HasPrefix(path, "/apis/"+gv+"/") || strings.HasPrefix(path, "/api/"+gv+"/")) {
			return gv, strings.TrimSuffix(k, "!")
		}
	}
	return "", ""
}

// put stores an object without it being counted as a call.
func (f *fakeCluster) put(path string, o object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[path] = o
}

func (f *fakeCluster) get(path string) object {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[path]
}

// paths of everything that is stored, sorted.
func (f *fakeCluster) paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for p := range f.objects {
		all = append(all, p)
	}
	sort.Strings(all)
	return all
}

// text is everything that is or was stored, as JSON.
func (f *fakeCluster) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	stored, _ := json.Marshal(f.objects)
	return string(stored) + strings.Join(f.bodies, "\n")
}

func discoveryDoc(path string) object {
	switch path {
	case "/version":
		return object{"major": "1", "minor": "24", "gitVersion": "v1.24.17"}
	case "/api":
		return object{"kind": "APIVersions", "versions": []string{"v1"}}
	case "/apis":
		var groups []any
		for gv := range servedKinds {
			if group, version, ok := strings.Cut(gv, "/"); ok {
				v := object{"groupVersion": gv, "version": version}
				groups = append(groups, object{"name": group, "versions": []any{v}, "preferredVersion": v})
			}
		}
		return object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
	}
	gv := strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/")
	kinds, ok := servedKinds[gv]
	if !ok {
		return nil
	}
	var list []any
	for plural, kind := range kinds {
		list = append(list, object{"name": plural, "singularName": "", "kind": strings.TrimSuffix(kind, "!"),
			"namespaced": !strings.HasSuffix(kind, "!"), "verbs": []string{"get", "list", "create", "delete", "patch"}})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": list}
}

// ready plays the controllers: what is stored gets the status that is waited for.
func (f *fakeCluster) ready(path string, o object) {
	switch o["kind"] {
	case "Certificate", "ClusterIssuer":
		o["status"] = object{"conditions": []any{object{"type": "Ready", "status": "True"}}}
	case "APIService":
		o["status"] = object{"conditions": []any{object{"type": "Available", "status": "True"}}}
	}
}

func workloadReady(kind, namespace, name string) (string, object) {
	plural := map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets"}[kind]
	one := 1
	return fmt.Sprintf("/apis/apps/v1/namespaces/%s/%s/%s", namespace, plural, name), object{
		"kind": kind, "apiVersion": "apps/v1", "metadata": object{"name": name, "namespace": namespace, "generation": 1},
		"spec":   object{"replicas": one, "selector": object{"matchLabels": object{"a": "b"}}},
		"status": object{"observedGeneration": 1, "replicas": one, "updatedReplicas": one, "readyReplicas": one, "availableReplicas": one},
	}
}

package shoptest

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/secrets"
)

// VaultBase is where the shop's secrets are in a Vault.
const VaultBase = "secret/data/prod-app"

// Vault is as much of HashiCorp's as the shop and its rotator speak to: logging
// in by Kubernetes auth, and a kv-v2 engine with check-and-set. A role may read
// its own secret; the role that Writer names may read and write all of them.
type Vault struct {
	Addr   string // https://…
	CACert string // file
	Token  string // file: of the pods
	Writer string
	Lease  time.Duration // of tokens, which end at nothing but being given back

	mu     sync.Mutex
	stored map[string][]secrets.Stored // versions by path
	custom map[string]map[string]string
	tokens map[string]string // roles by token
	logins int
	denied []string
}

const podToken = "the-pods-token"

// StartVault starts one that ends with the test.
func StartVault(t testing.TB, writer string) *Vault {
	t.Helper()
	v := &Vault{Writer: writer, Lease: 5 * time.Minute, stored: map[string][]secrets.Stored{}, custom: map[string]map[string]string{}, tokens: map[string]string{}}
	srv := httptest.NewUnstartedServer(v)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that are killed are no news
	srv.StartTLS()
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	v.Addr, v.CACert, v.Token = srv.URL, filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(v.Token, []byte(podToken+"\n"), 0o600))
	require.NoError(t, os.WriteFile(v.CACert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	return v
}

// As is the Vault for a pod of a role, which reads the secret of its name.
func (v *Vault) As(role string) secrets.Vault {
	return secrets.Vault{Addr: v.Addr, CACert: v.CACert, Role: role, Path: VaultBase + "/" + role, TokenFile: v.Token}
}

// Put makes a new version, as somebody else would; written is when.
func (v *Vault) Put(name string, values map[string]string, written time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(VaultBase+"/"+name, values, written)
}

func (v *Vault) put(path string, values map[string]string, written time.Time) int {
	n := len(v.stored[path]) + 1
	v.stored[path] = append(v.stored[path], secrets.Stored{Values: maps.Clone(values), Version: n, Written: written})
	return n
}

// Newest is the newest version of a secret, with what is written beside it.
func (v *Vault) Newest(name string) secrets.Stored {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.stored[VaultBase+"/"+name]
	if len(all) == 0 {
		return secrets.Stored{}
	}
	newest := all[len(all)-1]
	newest.Values, newest.Custom = maps.Clone(newest.Values), maps.Clone(v.custom[VaultBase+"/"+name])
	return newest
}

// Denied are the requests that were refused for want of permission.
func (v *Vault) Denied() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.denied...)
}

// Logins is how often somebody logged in.
func (v *Vault) Logins() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.logins
}

// Tokens is how many tokens were not given back.
func (v *Vault) Tokens() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.tokens)
}

func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	refuse := func(code int, words string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {words}})
	}
	if path == "auth/kubernetes/login" {
		var in struct{ Role, JWT string }
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.JWT != podToken {
			refuse(403, "permission denied")
			return
		}
		v.logins++
		token := fmt.Sprintf("s.%d", v.logins)
		v.tokens[token] = in.Role
		_ = json.NewEncoder(w).Encode(map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": int(v.Lease.Seconds())}})
		return
	}
	token := r.Header.Get("X-Vault-Token")
	role := v.tokens[token]
	if path == "auth/token/revoke-self" && role != "" {
		delete(v.tokens, token)
		w.WriteHeader(204)
		return
	}
	data := strings.Replace(path, "/metadata/", "/data/", 1)
	own := path == VaultBase+"/"+role && r.Method == http.MethodGet
	if role == "" || !own && (role != v.Writer || !strings.HasPrefix(data, VaultBase+"/")) {
		v.denied = append(v.denied, role+": "+r.Method+" "+path)
		refuse(403, "permission denied")
		return
	}
	v.answer(w, r, path, data, refuse)
}

func (v *Vault) answer(w http.ResponseWriter, r *http.Request, path, data string, refuse func(int, string)) {
	all := v.stored[data]
	switch {
	case r.Method == http.MethodGet && path == data && len(all) > 0:
		newest := all[len(all)-1]
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"data": newest.Values, "metadata": map[string]any{
			"version": newest.Version, "created_time": newest.Written.UTC(), "custom_metadata": v.custom[data], "deletion_time": "", "destroyed": false}}})
	case r.Method == http.MethodPost && path == data:
		var in struct {
			Options struct {
				CAS *int `json:"cas"`
			} `json:"options"`
			Data map[string]string `json:"data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(400, "no JSON")
			return
		}
		if in.Options.CAS != nil && *in.Options.CAS != len(all) {
			refuse(400, "check-and-set parameter did not match the current version")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]int{"version": v.put(data, in.Data, time.Now())}})
	case r.Method == http.MethodPost:
		var in struct {
			Custom map[string]string `json:"custom_metadata"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			refuse(400, "no JSON")
			return
		}
		v.custom[data] = in.Custom
		w.WriteHeader(204)
	default:
		refuse(404, "")
	}
}

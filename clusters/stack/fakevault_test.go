package stack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testRootToken  = "hvs.ROOTTOKENROOTTOKEN"
	testSetupToken = "hvs.SETUPTOKENSETUP"
	testRecovery   = "RECOVERYKEYRECOVERYKEY"
)

// fakeVault plays the part of Vault's API that the stack uses.
type fakeVault struct {
	server *httptest.Server
	ca     []byte // PEM
	anchor []byte // PEM

	mu          sync.Mutex
	initialised bool
	setUp       bool // the setup role exists
	revoked     map[string]bool
	calls       []string                  // "POST sys/init" …
	written     map[string]map[string]any // bodies by path
	tokens      map[string]string         // token that each written path was written with
	refuse      string                    // a path whose writes are refused
	known       map[string]string         // answers to reads, by path
}

func newFakeVault(t *testing.T) *fakeVault {
	t.Helper()
	ca, caKey := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "vault-ca"}, IsCA: true, BasicConstraintsValid: true}, nil, nil, time.Hour)
	leaf, leafKey := testCertificate(t, &x509.Certificate{DNSNames: []string{vaultServerName}}, ca, caKey, time.Hour)
	anchor, _ := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: trustAnchorName}, IsCA: true, BasicConstraintsValid: true}, nil, nil, time.Hour)
	v := &fakeVault{ca: pemOf(ca), anchor: pemOf(anchor)}
	v.wipe()
	v.server = httptest.NewUnstartedServer(v)
	v.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey}}}
	v.server.StartTLS()
	t.Cleanup(v.server.Close)
	return v
}

func (v *fakeVault) wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.initialised, v.setUp = false, false
	v.revoked, v.written, v.tokens = map[string]bool{}, map[string]map[string]any{}, map[string]string{}
}

func (v *fakeVault) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", v.server.Listener.Addr().String())
}

// secret is what cert-manager would have made for the server.
func (v *fakeVault) secret() object {
	return object{"kind": "Secret", "apiVersion": "v1", "metadata": object{"name": vaultTLSSecret, "namespace": NamespaceVault},
		"data": object{"ca.crt": base64.StdEncoding.EncodeToString(v.ca)}}
}

func (v *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	raw, _ := io.ReadAll(r.Body)
	var body map[string]any
	_ = json.Unmarshal(raw, &body)
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Method != http.MethodGet {
		v.calls = append(v.calls, r.Method+" "+path)
	}
	v.answer(w, r, path, body)
}

func (v *fakeVault) answer(w http.ResponseWriter, r *http.Request, path string, body map[string]any) {
	reply := func(code int, o any) { w.WriteHeader(code); _ = json.NewEncoder(w).Encode(o) }
	fail := func(code int, message string) { reply(code, object{"errors": []string{message}}) }
	token := r.Header.Get("X-Vault-Token")
	switch {
	case path == "sys/seal-status":
		reply(200, object{"type": "awskms", "initialized": v.initialised, "sealed": !v.initialised})
		return
	case path == "sys/health" && v.initialised:
		reply(200, object{})
		return
	case path == "sys/init" && !v.initialised:
		v.initialised = true
		reply(200, object{"root_token": testRootToken, "recovery_keys": []string{testRecovery}})
		return
	case path == "pki/ca/pem":
		_, _ = w.Write(v.anchor)
		return
	case path == "auth/kubernetes/login":
		if !v.setUp || body["role"] != setupRole || body["jwt"] != "jwt-of-"+setupAccount {
			fail(403, "permission denied")
			return
		}
		delete(v.revoked, testSetupToken)
		reply(200, object{"auth": object{"client_token": testSetupToken}})
		return
	}
	known := token == testRootToken && v.initialised || token == testSetupToken && v.setUp
	switch {
	case !known || v.revoked[token]:
		fail(403, "permission denied")
	case path == "auth/token/revoke-self":
		v.revoked[token] = true
		w.WriteHeader(204)
	case r.Method == http.MethodGet && v.known[path] != "":
		_, _ = io.WriteString(w, v.known[path])
	case r.Method == http.MethodGet:
		reply(200, object{"data": object{}})
	case token == testSetupToken && !strings.HasPrefix(path, "secret/data/prod-app/"):
		fail(403, "permission denied")
	case path == v.refuse:
		fail(500, "storage is full")
	default:
		v.written[path], v.tokens[path] = body, token
		if path == "auth/kubernetes/role/"+setupRole {
			v.setUp = true
		}
		w.WriteHeader(204)
	}
}

func (v *fakeVault) body(path string) map[string]any {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.written[path]
}

func (v *fakeVault) count(call string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, c := range v.calls {
		if c == call {
			n++
		}
	}
	return n
}

// testCertificate signs template by parent, or by itself when there is none.
func testCertificate(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	return testCertificateWith(t, elliptic.P256(), template, parent, parentKey, life)
}

func testCertificateWith(t *testing.T, curve elliptic.Curve, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, life time.Duration) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-30 * time.Second)
	template.NotAfter = time.Now().Add(life)
	if template.IsCA {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

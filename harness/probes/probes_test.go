package probes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/results"
)

func TestInjectionNamesThePodsWithoutAProxy(t *testing.T) {
	now := metav1.Now()
	pod := func(name, service string, containers ...string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "prod-app",
			Labels: map[string]string{"app.kubernetes.io/part-of": "fakeshop", "app.kubernetes.io/name": service},
		}}
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c})
		}
		return p
	}
	leaving := pod("old", "product-catalog", "app")
	leaving.DeletionTimestamp, leaving.Finalizers = &now, []string{"x/y"}
	client := fake.NewClientset(
		pod("meshed", "product-catalog", "linkerd-proxy", "app"), pod("bare", "customer-profile", "app"),
		pod("postgres-0", "postgres", "postgres"), leaving,
	)
	seen, err := Injection(context.Background(), client)
	require.NoError(t, err)
	require.Equal(t, results.Injection{Pods: 2, Injected: 1, Missing: []string{"bare"}}, seen)
}

// answers is a Prometheus that says one thing and remembers the question.
type answers struct {
	text  string
	query string
}

func (a *answers) ServiceGet(_ context.Context, ns, service, path string, q url.Values) ([]byte, error) {
	if ns != "monitoring" || service != "prometheus:9090" || path != "/api/v1/query" {
		return nil, fmt.Errorf("asked %s %s %s", ns, service, path)
	}
	a.query = q.Get("query")
	return []byte(a.text), nil
}

func TestMTLSCountsCallsByTheProxiesOwnWords(t *testing.T) {
	prom := &answers{text: `{"status":"success","data":{"resultType":"vector","result":[
		{"metric":{"deployment":"product-catalog","tls":"true"},"value":[1,"100.2"]},
		{"metric":{"deployment":"product-catalog","tls":"no_identity","no_tls_reason":"no_tls_from_remote"},"value":[1,"0.4"]},
		{"metric":{"deployment":"order-processing","tls":"true"},"value":[1,"7"]}]}}`}
	seen, err := MTLS(context.Background(), prom, "soak", 90*time.Second)
	require.NoError(t, err)
	require.Equal(t, results.MTLS{
		Phase: "soak", TLS: 108, Plain: 1, // a fraction of a plain call is one: it is never rounded away
		ByReason: map[string]int64{"no_tls_from_remote": 1},
		ByService: map[string]results.Calls{
			"product-catalog": {TLS: 101, Plain: 1}, "order-processing": {TLS: 7},
		},
	}, seen)
	require.Contains(t, prom.query, `target_port="9090"`)
	require.Contains(t, prom.query, "[90s]")
}

func TestAPrometheusThatCannotSayIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"an error":           `{"status":"error","error":"out of memory"}`,
		"no JSON":            `<html>`,
		"a scalar":           `{"status":"success","data":{"resultType":"scalar","result":[]}}`,
		"a value of NaN":     `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`,
		"a value of no text": `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,2]}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := MTLS(context.Background(), &answers{text: text}, "soak", time.Minute)
			require.Error(t, err)
		})
	}
}

func FuzzParseVector(f *testing.F) {
	f.Add([]byte(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"2.5"]}]}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		samples, err := parseVector(raw)
		if err != nil && samples != nil {
			t.Error("an answer with an error gave samples")
		}
	})
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string, parent *authority, curve elliptic.Curve, lasts time.Duration) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(lasts), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signer := &authority{key, template}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.cert, &key.PublicKey, signer.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{key, cert}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func issuerProbe(t *testing.T, issuer, anchor *authority) (results.Issuer, error) {
	t.Helper()
	client := fake.NewClientset(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-issuer", Namespace: "linkerd"}, Data: map[string][]byte{"tls.crt": issuer.pem()}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-trust-roots", Namespace: "linkerd"}, Data: map[string]string{"ca-bundle.crt": string(anchor.pem())}},
	)
	certificate := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cert-manager.io/v1", "kind": "Certificate",
		"metadata": map[string]any{"name": "linkerd-identity-issuer", "namespace": "linkerd"},
		"spec":     map[string]any{"renewBefore": "168h0m0s"},
		"status":   map[string]any{"renewalTime": "2026-02-20T10:00:00Z"},
	}}
	dyn := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{certificates: "CertificateList"}, certificate)
	return Issuer(context.Background(), client, dyn)
}

func TestIssuerIsDescribedAsTheMeshHoldsIt(t *testing.T) {
	root := newAuthority(t, "root", nil, elliptic.P256(), 10*365*24*time.Hour)
	issuer := newAuthority(t, "issuer", root, elliptic.P256(), 90*24*time.Hour)
	seen, err := issuerProbe(t, issuer, root)
	require.NoError(t, err)
	require.Equal(t, "P-256", seen.Curve)
	require.Equal(t, "ECDSA", seen.KeyAlgorithm)
	require.Equal(t, int64(7*24*3600), seen.RenewBeforeSeconds)
	require.Equal(t, issuer.cert.NotAfter, seen.NotAfter)
	require.True(t, *seen.IsCA)
	require.True(t, *seen.ChainsToAnchor)
}

func TestIssuerOfAnotherRootDoesNotChain(t *testing.T) {
	issuer := newAuthority(t, "issuer", newAuthority(t, "old root", nil, elliptic.P256(), time.Hour), elliptic.P384(), time.Hour)
	seen, err := issuerProbe(t, issuer, newAuthority(t, "new root", nil, elliptic.P256(), time.Hour))
	require.NoError(t, err)
	require.False(t, *seen.ChainsToAnchor)
	require.Equal(t, "P-384", seen.Curve)
}

func FuzzParseCertificates(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if certs, err := parseCertificates(raw); err == nil && len(certs) == 0 {
			t.Error("no certificate and no error")
		}
	})
}

// book is a database that answers by what the statement begins with.
type book map[string][][]string

func (b book) Query(_ context.Context, sql string) ([][]string, error) {
	for part, rows := range b {
		if strings.Contains(sql, part) {
			return rows, nil
		}
	}
	return nil, nil
}

func TestLedgerNamesWhatIsLostAndWhatIsDoubled(t *testing.T) {
	db := book{
		"count(*)":                {{"0"}},
		"SELECT id, status":       {{"a", "confirmed"}, {"c", "confirmed"}, {"d", "cancelled"}},
		"ledger.doubled":          {{"c"}},
		"ledger.payment_mismatch": {{"a"}},
	}
	got, err := Ledger(context.Background(), db, Orders{"a": results.ToldYes, "b": results.ToldYes, "d": results.ToldYes, "c": results.ToldUnsure}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, results.Ledger{
		Acknowledged: 3, Ambiguous: 1, Written: 2,
		Lost: []string{"b", "d"}, Doubled: []string{"c"}, Oversold: []string{}, PaymentMismatch: []string{"a"},
		Answers: &results.Answers{Contradicted: []string{}, Unasked: []string{}, AmbiguousWritten: 1},
	}, got)
}

func TestLedgerLooksUpWhatWasRefusedAndWhatWasLeftUnanswered(t *testing.T) {
	db := book{
		"count(*)": {{"0"}},
		"SELECT id, status": {
			{"declined", "cancelled"}, {"declined-yet-there", "confirmed"}, {"unsure-there", "confirmed"}, {"unsure-cancelled", "cancelled"},
			{"of-nobody", "confirmed"}, {"of-nobody-cancelled", "cancelled"}, {"told", "confirmed"},
		},
	}
	got, err := Ledger(context.Background(), db, Orders{
		"told": results.ToldYes, "declined": results.ToldNo, "declined-yet-there": results.ToldNo, "never-written": results.ToldNo,
		"unsure-there": results.ToldUnsure, "unsure-cancelled": results.ToldUnsure, "unsure-absent": results.ToldUnsure,
	}, time.Minute)
	require.NoError(t, err)
	require.Equal(t, &results.Answers{
		Refused: 3, Contradicted: []string{"declined-yet-there"}, Unasked: []string{"of-nobody"},
		AmbiguousWritten: 1, AmbiguousCancelled: 1, AmbiguousAbsent: 1,
	}, got.Answers)
	require.Equal(t, []int{1, 3, 4}, []int{got.Acknowledged, got.Ambiguous, got.Written})
	require.Empty(t, got.Lost)
}

func TestARowOfOrdersWithoutAStatusIsAnError(t *testing.T) {
	_, err := Ledger(context.Background(), book{"count(*)": {{"0"}}, "SELECT id, status": {{"a"}}}, Orders{}, time.Minute)
	require.ErrorContains(t, err, "1 fields where an id and a status should be")
}

type noDatabase struct{}

func (noDatabase) Query(context.Context, string) ([][]string, error) {
	return nil, errors.New("connection refused")
}

func TestALedgerThatCannotBeReadIsAnErrorAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := Ledger(t.Context(), noDatabase{}, Orders{}, time.Hour)
		require.ErrorContains(t, err, "connection refused")
		require.Equal(t, unreachable, time.Since(began))
	})
}

// restarting is a database that refuses so many times before each answer.
type restarting struct {
	Database
	refusals, left int
}

func (r *restarting) Query(ctx context.Context, sql string) ([][]string, error) {
	if r.left > 0 {
		r.left--
		return nil, errors.New("the database system is starting up")
	}
	r.left = r.refusals
	return r.Database.Query(ctx, sql)
}

func TestADatabaseThatStartsAnewIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &restarting{Database: book{"count(*)": {{"0"}}, "SELECT id, status": {{"a", "confirmed"}}}, refusals: 20}
		got, err := Ledger(t.Context(), db, Orders{"a": results.ToldYes}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, got.Written)
		require.Empty(t, got.Lost)
	})
}

func TestOrdersThatStayUnderWayAreNamedAndNotCalledLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		db := book{"count(*)": {{"3"}}, "SELECT id, status": {
			{"told", "paid"}, {"refused", "reserved"}, {"unsure", "placed"}, {"whole", "confirmed"}, {"off", "cancelled"},
		}}
		got, err := Ledger(t.Context(), db, Orders{
			"told": results.ToldYes, "refused": results.ToldNo, "unsure": results.ToldUnsure, "whole": results.ToldYes, "off": results.ToldNo,
		}, 3*time.Minute)
		require.NoError(t, err)
		require.Equal(t, 3*time.Minute, time.Since(began))
		require.Equal(t, results.Ledger{
			Acknowledged: 2, Ambiguous: 1, Written: 1, Lost: []string{}, Doubled: []string{}, Oversold: []string{}, PaymentMismatch: []string{},
			Unsettled: []string{"told", "refused", "unsure"},
			Answers:   &results.Answers{Refused: 2, Contradicted: []string{}, Unasked: []string{}},
		}, got)
	})
}

func TestAnAnswerSettlesAnAmbiguousOrder(t *testing.T) {
	folder, err := results.Create(t.TempDir(), "run")
	require.NoError(t, err)
	for _, r := range []results.Request{
		{OrderID: "lost-answer", Outcome: results.Failed}, {OrderID: "retried", Outcome: results.Failed},
		{OrderID: "retried", Outcome: results.OK}, {OrderID: "retried", Outcome: results.Rejected},
		{OrderID: "sold-out", Outcome: results.Rejected}, {OrderID: "sold-out", Outcome: results.Failed},
		{OrderID: "never-left", Outcome: results.Undispatched}, {Outcome: results.OK},
	} {
		require.NoError(t, folder.AddRequest(r))
	}
	require.NoError(t, folder.Close())
	orders, err := ReadOrders(folder)
	require.NoError(t, err)
	require.Equal(t, Orders{"retried": results.ToldYes, "lost-answer": results.ToldUnsure, "sold-out": results.ToldNo}, orders)
}

// shell records what would run in the pod.
type shell struct {
	argv []string
	sql  string
	out  string
	err  error
}

func (s *shell) Exec(_ context.Context, ns, pod, container string, argv []string, stdin io.Reader) ([]byte, []byte, error) {
	sql, err := io.ReadAll(stdin)
	s.argv, s.sql = append([]string{ns, pod, container}, argv...), string(sql)
	return []byte(s.out), []byte("psql says"), errors.Join(s.err, err)
}

func TestPSQLSendsTheStatementByStandardInput(t *testing.T) {
	s := &shell{out: "a\x1f1\nb\x1f2\n"}
	rows, err := PSQL{Exec: s.Exec}.Query(context.Background(), "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"a", "1"}, {"b", "2"}}, rows)
	require.Equal(t, "SELECT 1;\n", s.sql)
	require.False(t, slices.ContainsFunc(s.argv, func(a string) bool { return strings.Contains(a, "SELECT") }))
}

func TestPSQLTellsWhatItSaid(t *testing.T) {
	_, err := PSQL{Exec: (&shell{err: errors.New("exit 3")}).Exec}.Query(context.Background(), "SELECT")
	require.ErrorContains(t, err, "exit 3: psql says")
}

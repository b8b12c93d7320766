package probes

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/results"
)

// proxies are the certificates that pods present on their inbound port; a pod
// that has none cannot be reached.
type proxies map[string]*authority

func (p proxies) Dial(_ context.Context, _, pod string, port int) (net.Conn, error) {
	shows := p[pod]
	if shows == nil || port != 4143 {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{shows.cert.Raw}, PrivateKey: shows.key}}})
		_ = conn.HandshakeContext(context.Background())
	}()
	return client, nil
}

func proxied(name, account string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "prod-app", UID: types.UID("uid-" + name),
			Labels: map[string]string{"app.kubernetes.io/part-of": "fakeshop", "app.kubernetes.io/name": account},
		},
		Spec:   corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "linkerd-proxy"}, {Name: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// leafOf is a proxy's certificate.
func leafOf(t *testing.T, parent *authority, name string, serial int64) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{key, cert}
}

func root(t *testing.T, name string) *authority {
	t.Helper()
	return newAuthority(t, name, nil, elliptic.P256(), time.Hour)
}

func TestEveryProxysCertificateIsHeldAgainstItsPod(t *testing.T) {
	anchor, other := root(t, "root"), root(t, "other")
	const mine = "order-processing.prod-app.serviceaccount.identity.linkerd.cluster.local"
	right, foreign := leafOf(t, anchor, mine, 10), leafOf(t, other, "somebody.else", 11)
	late := proxied("late-1", "order-processing")
	late.Status.Phase = corev1.PodPending
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-trust-roots", Namespace: "linkerd"}, Data: map[string]string{"ca-bundle.crt": string(anchor.pem())}},
		proxied("order-1", "order-processing"), proxied("order-2", "order-processing"), proxied("order-3", "order-processing"), late,
	)
	dial, seen := proxies{"order-1": right, "order-2": foreign}, Serials{}
	got, err := Identities(t.Context(), client, dial, seen)
	require.NoError(t, err)
	require.Equal(t, 3, got.Proxies)
	require.Equal(t, []string{"order-3: connection refused"}, got.Silent)
	yes, no := true, false
	require.Len(t, got.Presented, 2)
	require.Equal(t, results.Presented{
		Pod: "order-1", UID: "uid-order-1", Identity: mine, Expected: mine, From: right.cert.NotBefore.UTC(), Until: right.cert.NotAfter.UTC(),
		Key: "ecdsa-p256", Chains: &yes, Serial: "a", Version: "TLS 1.3",
	}, got.Presented[0])
	require.Equal(t, []any{"somebody.else", mine, &no}, []any{got.Presented[1].Identity, got.Presented[1].Expected, got.Presented[1].Chains})
	require.Contains(t, got.Presented[1].Why, "unknown authority")

	dial["order-1"] = leafOf(t, anchor, mine, 12)
	got, err = Identities(t.Context(), client, dial, seen)
	require.NoError(t, err)
	require.Equal(t, []*bool{&yes, &no}, []*bool{got.Presented[0].Renewed, got.Presented[1].Renewed})

	got, err = Identities(t.Context(), client, dial, seen)
	require.NoError(t, err)
	require.Equal(t, []*bool{&yes, &no}, []*bool{got.Presented[0].Renewed, got.Presented[1].Renewed}, "what was renewed once stays renewed")
}

func TestWithoutAnchorsNothingIsSaid(t *testing.T) {
	_, err := Identities(t.Context(), fake.NewClientset(), proxies{}, Serials{})
	require.ErrorContains(t, err, "read the trust anchors")
}

func TestIdentitiesEndWithTheirContext(t *testing.T) {
	anchor := root(t, "root")
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-identity-trust-roots", Namespace: "linkerd"}, Data: map[string]string{"ca-bundle.crt": string(anchor.pem())}},
		proxied("order-1", "order-processing"),
	)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Nanosecond, errors.New("enough"))
	defer cancel()
	<-ctx.Done()
	_, err := Identities(ctx, client, proxies{}, Serials{})
	require.ErrorContains(t, err, "enough")
}

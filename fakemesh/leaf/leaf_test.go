package leaf

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/meshtls"
)

const web = "web.prod-app.serviceaccount.identity.linkerd.cluster.local"

func TestALeafIsRenewedAt70PercentOfItsLife(t *testing.T) {
	now := time.Now()
	require.Equal(t, 70*time.Minute, RenewIn(now.Add(-20*time.Second), now.Add(100*time.Minute), now))
	require.Equal(t, 7*time.Second, RenewIn(now.Add(5*time.Second), now.Add(15*time.Second), now))
	require.Equal(t, minBackoff, RenewIn(now.Add(-time.Hour), now.Add(-time.Minute), now), "never in a tight loop")
}

// keeper makes a Keeper whose certifier is f.
func keeper(t *testing.T, ca *meshtest.CA, f Certifier) *Keeper {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("of-web"), 0o600))
	return New(Options{
		Credentials: meshtls.NewCredentials(web, ca.Pool()), Certify: f, TokenFile: token,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// signer certifies what it is asked for.
func signer(t *testing.T, ca *meshtest.CA, life time.Duration) Certifier {
	cert, key := ca.PEM(t)
	issuer, err := identity.ParseIssuer(cert, key, ca.Pool(), 0, time.Now())
	require.NoError(t, err)
	return func(_ context.Context, r *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
		if string(r.Token) != "of-web" || r.Identity != web {
			return nil, errors.New("the wrong token or name")
		}
		csr, err := x509.ParseCertificateRequest(r.CertificateSigningRequest)
		if err != nil {
			return nil, err
		}
		pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
		if !ok {
			return nil, errors.New("no ECDSA key")
		}
		leaf, err := issuer.Sign(web, pub, identity.Validity{Lifetime: life}, time.Now())
		if err != nil {
			return nil, err
		}
		return &meshapi.CertifyResponse{Leaf: leaf.Raw}, nil
	}
}

func run(t *testing.T, k *Keeper) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestAKeeperObtainsAndRenewsUntilItIsStopped(t *testing.T) {
	ca := meshtest.Root(t, "root")
	k := keeper(t, ca, signer(t, ca, 2*time.Second))
	require.Nil(t, k.Credentials.Leaf())
	run(t, k)
	select {
	case <-k.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("no certificate")
	}
	first := k.Credentials.Leaf()
	require.Equal(t, []string{web}, first.Leaf.DNSNames)
	require.Eventually(t, func() bool { return k.Refreshes() >= 2 }, 5*time.Second, 10*time.Millisecond)
	require.NotEqual(t, first.Leaf.SerialNumber, k.Credentials.Leaf().Leaf.SerialNumber)
}

func TestFailuresAreTriedAgainAndTheOldLeafStays(t *testing.T) {
	ca := meshtest.Root(t, "root")
	good := signer(t, ca, time.Hour)
	var calls atomic.Int64
	k := keeper(t, ca, func(ctx context.Context, r *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
		if calls.Add(1) < 3 {
			return nil, errors.New("identity is away")
		}
		return good(ctx, r)
	})
	old := ca.Leaf(t, web, time.Hour)
	require.NoError(t, k.Credentials.Set(old))
	run(t, k)
	select {
	case <-k.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("no certificate")
	}
	require.EqualValues(t, 3, calls.Load())
	require.EqualValues(t, 1, k.Refreshes())
	require.NotEqual(t, old.Leaf.SerialNumber, k.Credentials.Leaf().Leaf.SerialNumber)
}

func TestCertificatesThatPeersWouldRefuseAreNotTaken(t *testing.T) {
	ca, other := meshtest.Root(t, "root"), meshtest.Root(t, "other")
	answer := func(res *meshapi.CertifyResponse) Certifier {
		return func(context.Context, *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) { return res, nil }
	}
	for name, tc := range map[string]struct {
		f    Certifier
		says string
	}{
		"of another root": {signer(t, other, time.Hour), "certificate signed by unknown authority"},
		"for another key": {answer(&meshapi.CertifyResponse{Leaf: ca.Leaf(t, web, time.Hour).Certificate[0]}), "another key"},
		"no certificate":  {answer(&meshapi.CertifyResponse{Leaf: []byte("x")}), "parse the certificate"},
		"an expired one":  {signer(t, ca, -time.Minute), "expired"},
		"nothing but error": {func(context.Context, *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
			return nil, errors.New("no")
		}, "ask for a certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			k := keeper(t, ca, tc.f)
			_, err := k.obtain(context.Background())
			require.ErrorContains(t, err, tc.says)
			require.Nil(t, k.Credentials.Leaf())
		})
	}
	t.Run("without a token", func(t *testing.T) {
		k := keeper(t, ca, signer(t, ca, time.Hour))
		k.TokenFile += ".gone"
		_, err := k.obtain(context.Background())
		require.ErrorContains(t, err, "service account token")
	})
}

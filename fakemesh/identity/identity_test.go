package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtest"
)

const (
	domain = "cluster.local"
	web    = "web.prod-app.serviceaccount.identity.linkerd.cluster.local"
)

// tokens says whose each token is.
type tokens map[string]string

func (ts tokens) TokenReview(_ context.Context, token, audience string) (string, error) {
	if audience != "identity.l5d.io" {
		return "", errors.New("asked for the audience " + audience)
	}
	switch user := ts[token]; user {
	case "":
		return "", kubeapi.ErrUnauthenticated
	case "down":
		return "", errors.New("the API server is away")
	default:
		return user, nil
	}
}

// diary keeps events.
type diary struct {
	mu     sync.Mutex
	issuer []string
	issued []meshid.ID
}

func (d *diary) Issuer(warning bool, reason, _ string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if warning {
		reason = "!" + reason
	}
	d.issuer = append(d.issuer, reason)
}

func (d *diary) Issued(id meshid.ID, _ string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.issued = append(d.issued, id)
}

func (d *diary) reasons() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.issuer...)
}

func writeIssuer(t *testing.T, dir string, ca *meshtest.CA) {
	t.Helper()
	cert, key := ca.PEM(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
}

type setup struct {
	s     *Service
	root  *meshtest.CA
	dir   string
	diary *diary
	now   time.Time
}

func start(t *testing.T, s meshtest.Spec) *setup {
	t.Helper()
	x := &setup{root: meshtest.Root(t, "root"), dir: t.TempDir(), diary: &diary{}, now: time.Now().Truncate(time.Second)}
	writeIssuer(t, x.dir, x.root.Issue(t, "identity.linkerd.cluster.local", s))
	service, err := NewService(Options{
		IssuerDir: x.dir, Roots: x.root.Pool(), Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: domain},
		Validity: Validity{Lifetime: 24 * time.Hour, ClockSkew: 20 * time.Second},
		Reviewer: tokens{"of-web": "system:serviceaccount:prod-app:web", "of-db": "system:serviceaccount:prod-app:db", "of-admin": "admin", "down": "down"},
		Recorder: x.diary, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return x.now },
	})
	require.NoError(t, err)
	x.s = service
	return x
}

func request(t *testing.T, key crypto.Signer, change func(*x509.CertificateRequest)) []byte {
	t.Helper()
	template := &x509.CertificateRequest{DNSNames: []string{web}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	require.NoError(t, err)
	return der
}

func TestALeafIsForOneNameForADayAndChainsToTheRoot(t *testing.T) {
	x := start(t, meshtest.Spec{NotAfter: time.Now().Add(90 * 24 * time.Hour)})
	key := meshtest.Key(t)
	res, err := x.s.Certify(context.Background(), &meshapi.CertifyRequest{Identity: web, Token: []byte("of-web"), CertificateSigningRequest: request(t, key, nil)})
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(res.Leaf)
	require.NoError(t, err)
	require.Equal(t, []string{web}, leaf.DNSNames)
	require.Empty(t, leaf.Subject.CommonName)
	require.False(t, leaf.IsCA)
	require.True(t, key.PublicKey.Equal(leaf.PublicKey))
	require.Equal(t, x.now.Add(-20*time.Second).UTC(), leaf.NotBefore)
	require.Equal(t, x.now.Add(24*time.Hour+20*time.Second).UTC(), leaf.NotAfter)
	require.Equal(t, leaf.NotAfter, res.ValidUntil.AsTime())
	between := x509.NewCertPool()
	require.Len(t, res.Intermediates, 1)
	issuer, err := x509.ParseCertificate(res.Intermediates[0])
	require.NoError(t, err)
	between.AddCert(issuer)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err = leaf.Verify(x509.VerifyOptions{DNSName: web, Roots: x.root.Pool(), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
		require.NoError(t, err)
	}
	require.Equal(t, []meshid.ID{{ServiceAccount: "web", Namespace: "prod-app"}}, x.diary.issued)
}

func TestALeafNeverOutlivesItsIssuer(t *testing.T) {
	end := time.Now().Add(2 * time.Hour).Truncate(time.Second)
	x := start(t, meshtest.Spec{NotAfter: end})
	ask := &meshapi.CertifyRequest{Identity: web, Token: []byte("of-web"), CertificateSigningRequest: request(t, meshtest.Key(t), nil)}
	res, err := x.s.Certify(context.Background(), ask)
	require.NoError(t, err)
	require.Equal(t, end.UTC(), res.ValidUntil.AsTime())
	x.now = end
	_, err = x.s.Certify(context.Background(), ask)
	require.Equal(t, codes.Internal, status.Code(err), "an issuer that has expired signs nothing")
}

func TestOnlyThePodsOwnNameIsCertified(t *testing.T) {
	x := start(t, meshtest.Spec{})
	p256 := meshtest.Key(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	const db = "db.prod-app.serviceaccount.identity.linkerd.cluster.local"
	for name, tc := range map[string]struct {
		identity, token string
		csr             []byte
		want            codes.Code
	}{
		"another's token":             {web, "of-db", request(t, p256, nil), codes.PermissionDenied},
		"a user's token":              {web, "of-admin", request(t, p256, nil), codes.PermissionDenied},
		"an unknown token":            {web, "forged", request(t, p256, nil), codes.Unauthenticated},
		"no token":                    {web, "", request(t, p256, nil), codes.Unauthenticated},
		"the API server is away":      {web, "down", request(t, p256, nil), codes.Unavailable},
		"a mesh in another namespace": {"web.prod-app.serviceaccount.identity.mesh.cluster.local", "of-web", request(t, p256, nil), codes.InvalidArgument},
		"another trust domain":        {"web.prod-app.serviceaccount.identity.linkerd.evil", "of-web", request(t, p256, nil), codes.InvalidArgument},
		"a request for another name":  {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.DNSNames = []string{db} }), codes.InvalidArgument},
		"one name too many":           {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.DNSNames = []string{web, db} }), codes.InvalidArgument},
		"no name":                     {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.DNSNames = nil }), codes.InvalidArgument},
		"an IP address besides":       {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{10, 0, 0, 1}} }), codes.InvalidArgument},
		"an e-mail address besides":   {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), codes.InvalidArgument},
		"another common name":         {web, "of-web", request(t, p256, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: db} }), codes.InvalidArgument},
		"a key on P-384":              {web, "of-web", request(t, p384, nil), codes.InvalidArgument},
		"an RSA key":                  {web, "of-web", request(t, rsaKey, nil), codes.InvalidArgument},
		"no request":                  {web, "of-web", nil, codes.InvalidArgument},
		"an endless request":          {web, "of-web", make([]byte, maxRequest+1), codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := x.s.Certify(context.Background(), &meshapi.CertifyRequest{Identity: tc.identity, Token: []byte(tc.token), CertificateSigningRequest: tc.csr})
			require.Equal(t, tc.want, status.Code(err), "%v", err)
		})
	}
	t.Run("a request whose signature does not fit", func(t *testing.T) {
		csr := request(t, p256, nil)
		csr[len(csr)-1] ^= 1
		_, err := x.s.Certify(context.Background(), &meshapi.CertifyRequest{Identity: web, Token: []byte("of-web"), CertificateSigningRequest: csr})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	})
	require.Empty(t, x.diary.issued)
}

func TestIssuersThatCannotServeAreRefused(t *testing.T) {
	root, other := meshtest.Root(t, "root"), meshtest.Root(t, "other")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	for name, tc := range map[string]struct {
		ca   *meshtest.CA
		says string
	}{
		"RSA":                  {root.Issue(t, "i", meshtest.Spec{Key: rsaKey}), "not ECDSA P-256"},
		"P-384":                {root.Issue(t, "i", meshtest.Spec{Key: p384}), "not ECDSA P-256"},
		"no CA":                {root.Issue(t, "i", meshtest.Spec{NotCA: true}), "is not a CA"},
		"expired":              {root.Issue(t, "i", meshtest.Spec{NotAfter: now.Add(-time.Minute)}), "expired at"},
		"not valid yet":        {root.Issue(t, "i", meshtest.Spec{NotBefore: now.Add(time.Minute)}), "not valid before"},
		"of an unknown root":   {other.Issue(t, "i", meshtest.Spec{}), "does not chain to the trust anchors"},
		"a root of its own":    {other, "does not chain to the trust anchors"},
		"valid within 20 s":    {root.Issue(t, "i", meshtest.Spec{NotBefore: now.Add(10 * time.Second)}), ""},
		"the anchor itself":    {root, ""},
		"two steps below root": {root.Issue(t, "a", meshtest.Spec{}).Issue(t, "b", meshtest.Spec{}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			cert, key := tc.ca.PEM(t)
			_, err := ParseIssuer(cert, key, root.Pool(), 20*time.Second, now)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
		})
	}
	t.Run("a key of another certificate", func(t *testing.T) {
		cert, _ := root.Issue(t, "i", meshtest.Spec{}).PEM(t)
		_, key := root.Issue(t, "i", meshtest.Spec{}).PEM(t)
		_, err := ParseIssuer(cert, key, root.Pool(), 0, now)
		require.ErrorContains(t, err, "key pair")
	})
}

func TestABundleOfSeveralAnchorsTrustsTheIssuersOfEach(t *testing.T) {
	a, b := meshtest.Root(t, "old"), meshtest.Root(t, "new")
	pool := a.Pool()
	pool.AddCert(b.Cert)
	for _, root := range []*meshtest.CA{a, b} {
		cert, key := root.Issue(t, "i", meshtest.Spec{}).PEM(t)
		_, err := ParseIssuer(cert, key, pool, 0, time.Now())
		require.NoError(t, err)
	}
}

func TestWithoutAGoodIssuerTheServiceDoesNotStart(t *testing.T) {
	dir, d := t.TempDir(), &diary{}
	writeIssuer(t, dir, meshtest.Root(t, "other").Issue(t, "i", meshtest.Spec{}))
	_, err := NewService(Options{IssuerDir: dir, Roots: meshtest.Root(t, "root").Pool(), Recorder: d})
	require.ErrorContains(t, err, "does not chain to the trust anchors")
	require.Equal(t, []string{"!IssuerValidationFailed"}, d.reasons())
}

func TestANewIssuerIsTakenWithoutARestartAndABadOneIsSkipped(t *testing.T) {
	x := start(t, meshtest.Spec{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.s.Watch(ctx, 5*time.Millisecond)
	}()
	defer func() { cancel(); <-done }()
	time.Sleep(20 * time.Millisecond)
	first := x.s.current().cert

	second := x.root.Issue(t, "second", meshtest.Spec{})
	writeIssuer(t, x.dir, second)
	require.Eventually(t, func() bool { return x.s.current().cert.Equal(second.Cert) }, 5*time.Second, 5*time.Millisecond)
	require.False(t, first.Equal(second.Cert))

	own, err := x.s.ServerCertificate("linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local")
	require.NoError(t, err)
	require.NoError(t, own.Leaf.CheckSignatureFrom(second.Cert), "the server's own certificate is of the new issuer")

	writeIssuer(t, x.dir, meshtest.Root(t, "other").Issue(t, "third", meshtest.Spec{}))
	require.Eventually(t, func() bool {
		r := x.diary.reasons()
		return len(r) > 0 && r[len(r)-1] == "!IssuerUpdateSkipped"
	}, 5*time.Second, 5*time.Millisecond)
	require.True(t, x.s.current().cert.Equal(second.Cert))
	require.Contains(t, x.diary.reasons(), "IssuerUpdated")
	require.Contains(t, x.diary.reasons(), "!IssuerValidationFailed")
}

func TestAnIssuerWithAKeyThatIsNotP256IsSkippedAsWell(t *testing.T) {
	x := start(t, meshtest.Spec{})
	first := x.s.current().cert
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	writeIssuer(t, x.dir, x.root.Issue(t, "rsa", meshtest.Spec{Key: rsaKey}))
	x.s.Reload()
	require.Equal(t, []string{"!IssuerValidationFailed", "!IssuerUpdateSkipped"}, x.diary.reasons())
	require.True(t, x.s.current().cert.Equal(first))
	_, err = x.s.Certify(context.Background(), &meshapi.CertifyRequest{Identity: web, Token: []byte("of-web"), CertificateSigningRequest: request(t, meshtest.Key(t), nil)})
	require.NoError(t, err, "the one before it goes on signing")
}

func TestBothSchemesOfTheIssuersSecretAreRead(t *testing.T) {
	root := meshtest.Root(t, "root")
	issuer := root.Issue(t, "i", meshtest.Spec{})
	cert, key := issuer.PEM(t)
	for scheme, names := range map[string][2]string{"kubernetes.io/tls": {"tls.crt", "tls.key"}, "linkerd.io/tls": {"crt.pem", "key.pem"}} {
		parsed, err := ParseScheme(scheme)
		require.NoError(t, err)
		dir := t.TempDir()
		before := fingerprint(dir, parsed)
		require.NoError(t, os.WriteFile(filepath.Join(dir, names[0]), cert, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, names[1]), key, 0o600))
		require.NotEqual(t, before, fingerprint(dir, parsed), "a change is seen")
		got, err := LoadIssuer(dir, parsed, root.Pool(), 0, time.Now())
		require.NoError(t, err)
		require.True(t, got.Certificate().Equal(issuer.Cert))
	}
	_, err := ParseScheme("spiffe")
	require.ErrorContains(t, err, "want kubernetes.io/tls or linkerd.io/tls")
}

func TestTheServersOwnCertificateIsRenewed(t *testing.T) {
	x := start(t, meshtest.Spec{NotAfter: time.Now().Add(90 * 24 * time.Hour)})
	first, err := x.s.ServerCertificate(web)
	require.NoError(t, err)
	x.now = x.now.Add(12 * time.Hour)
	same, err := x.s.ServerCertificate(web)
	require.NoError(t, err)
	require.Same(t, first, same)
	x.now = x.now.Add(6 * time.Hour)
	next, err := x.s.ServerCertificate(web)
	require.NoError(t, err)
	require.True(t, next.Leaf.NotAfter.After(first.Leaf.NotAfter))
}

func FuzzCheckRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{web}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		pub, err := checkRequest(b, web)
		if err == nil && pub == nil {
			t.Fatal("no key and no error")
		}
	})
}

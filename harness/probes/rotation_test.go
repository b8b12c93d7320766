package probes

import (
	"crypto/elliptic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

func TestWhatIsReplacedBecomesYoungAgain(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	root := newAuthority(t, "root", nil, elliptic.P256(), time.Hour)
	written := now.Add(-40 * day)
	stored := []stack.StoredSecret{{Path: "secret/prod-app/a", Version: 1, Written: written, Every: 30 * day}, {Path: "secret/prod-app/b", Version: 1, Written: now.Add(time.Second)}}
	issuer := &results.Issuer{NotBefore: now.Add(-5 * day), RenewalTime: now.Add(78 * day)}

	seen, err := Rotation(stored, root.pem(), issuer, now)
	require.NoError(t, err)
	require.Equal(t, []results.SecretAge{
		{Path: "secret/prod-app/a", Age: 40 * day, Every: 30 * day, Since: written.UTC(), Version: 1},
		{Path: "secret/prod-app/b", Since: now.Add(time.Second).UTC(), Version: 1}, // Vault's clock goes before
	}, seen.Secrets)
	require.Equal(t, results.SecretAge{Path: "pki: root", Age: now.Sub(root.cert.NotBefore), Since: root.cert.NotBefore, Anchor: true}, seen.Certificates[0])
	require.Equal(t, results.SecretAge{Path: "linkerd/linkerd-identity-issuer", Age: 5 * day, Every: 83 * day, Since: issuer.NotBefore.UTC()}, seen.Certificates[1])

	stored[0].Version, stored[0].Written, issuer.NotBefore = 2, now.Add(-time.Minute), now.Add(-30*time.Second)
	seen, err = Rotation(stored, root.pem(), issuer, now)
	require.NoError(t, err)
	require.Equal(t, []any{2, time.Minute}, []any{seen.Secrets[0].Version, seen.Secrets[0].Age})
	require.Equal(t, 30*time.Second, seen.Certificates[1].Age)
}

func TestWithoutAMeshThereIsNoIssuingCertificate(t *testing.T) {
	root := newAuthority(t, "root", nil, elliptic.P256(), time.Hour)
	seen, err := Rotation(nil, root.pem(), nil, time.Now())
	require.NoError(t, err)
	require.Empty(t, seen.Secrets)
	require.Len(t, seen.Certificates, 1)
	_, err = Rotation(nil, []byte("no PEM"), nil, time.Now())
	require.ErrorContains(t, err, "read the trust anchor")
}

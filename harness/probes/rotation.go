package probes

import (
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

// Rotation tells how old what Vault keeps is at an instant: the shop's secrets,
// the mesh's trust anchor (PEM) and, where there is one, the issuing certificate
// that Vault signed.
func Rotation(stored []stack.StoredSecret, anchor []byte, issuer *results.Issuer, now time.Time) (results.VaultRotation, error) {
	seen := results.VaultRotation{Secrets: []results.SecretAge{}}
	for _, s := range stored {
		seen.Secrets = append(seen.Secrets, results.SecretAge{
			Path: s.Path, Age: age(s.Written, now), Every: s.Every, Since: s.Written.UTC(), Version: s.Version,
		})
	}
	roots, err := parseCertificates(anchor)
	if err != nil {
		return results.VaultRotation{}, fmt.Errorf("read the trust anchor: %w", err)
	}
	for _, root := range roots {
		seen.Certificates = append(seen.Certificates, results.SecretAge{
			Path: "pki: " + root.Subject.CommonName, Age: age(root.NotBefore, now), Since: root.NotBefore.UTC(), Anchor: true,
		})
	}
	if issuer != nil {
		seen.Certificates = append(seen.Certificates, results.SecretAge{
			Path: meshNamespace + "/" + issuerName, Age: age(issuer.NotBefore, now), Since: issuer.NotBefore.UTC(),
			Every: max(issuer.RenewalTime.Sub(issuer.NotBefore), 0),
		})
	}
	return seen, nil
}

// age is never below zero: Vault's clock may go before this one.
func age(since, now time.Time) time.Duration { return max(now.Sub(since), 0) }

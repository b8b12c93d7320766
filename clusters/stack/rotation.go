package stack

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/stack/vaultapi"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// StoredSecret is one of the shop's secrets in Vault, without its values.
type StoredSecret struct {
	Path    string    // in Vault: secret/prod-app/payment-gateway
	Version int       // counted from 1
	Written time.Time // when that version was, by Vault's clock
	Every   time.Duration
}

// StoredSecrets asks Vault for the age of every secret that the shop's services
// read, and of the one of their rotator. It may read what is known of them, and not
// the secrets themselves.
func StoredSecrets(ctx context.Context, env *Env) ([]StoredSecret, error) {
	var all []StoredSecret
	err := inVault(ctx, env, func(vault *vaultapi.Client) error {
		for _, service := range keepers() {
			known, err := vault.KVMetadata(ctx, kvMount, secretPath(service))
			if err != nil {
				return fmt.Errorf("look at the secrets of %s: %w", service, err)
			}
			s := StoredSecret{Path: kvMount + "/" + secretPath(service), Version: known.Version, Written: known.Written}
			if text := known.Custom[shopchart.RotationPeriod]; text != "" {
				if s.Every, err = time.ParseDuration(text); err != nil || s.Every <= 0 {
					return fmt.Errorf("look at the secrets of %s: %s should be a duration such as 720h", service, shopchart.RotationPeriod)
				}
			}
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// keepers are who has a secret in Vault: the shop's services, and what renews
// theirs.
func keepers() []string { return append(shopchart.Services(), shopchart.Rotator) }

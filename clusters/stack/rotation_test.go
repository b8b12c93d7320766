package stack

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// metadata is what a kv-v2 engine of Vault says of a secret.
func metadata(version int, written, custom, more string) string {
	return fmt.Sprintf(`{"data":{"created_time":"2026-01-01T00:00:00Z","current_version":%[1]d,"custom_metadata":%[3]s,"versions":{
		"0":{"created_time":"2026-01-01T00:00:00Z","deletion_time":"","destroyed":false},"%[1]d":{"created_time":%[2]q%[4]s}}}}`, version, written, custom, more)
}

func TestStoredSecretsAreAsOldAsTheirNewestVersion(t *testing.T) {
	b, _ := newShopBench(t)
	b.vault.known = map[string]string{}
	for _, service := range keepers() {
		b.vault.known["secret/metadata/prod-app/"+service] = metadata(1, "2026-02-01T10:00:00.5Z", "null", "")
	}
	b.vault.known["secret/metadata/prod-app/payment-gateway"] = metadata(3, "2026-03-01T10:00:00Z", `{"rotation-period":"720h"}`, "")
	stored, err := StoredSecrets(t.Context(), b.Env)
	require.NoError(t, err)
	require.Len(t, stored, 9)
	require.Equal(t, "secret/prod-app/secret-rotator", stored[8].Path, "the rotator's own is renewed, too")
	for _, s := range stored {
		if s.Path == "secret/prod-app/payment-gateway" {
			require.Equal(t, StoredSecret{s.Path, 3, time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), 30 * 24 * time.Hour}, s)
			continue
		}
		require.Equal(t, StoredSecret{s.Path, 1, time.Date(2026, 2, 1, 10, 0, 0, 5e8, time.UTC), 0}, s)
	}
	require.True(t, b.vault.revoked[testSetupToken], "the token is given back")
	require.Zero(t, b.vault.count("GET secret/data/prod-app/payment-gateway"))
	noSecrets(t, b, nil)
}

func TestASecretWhoseAgeIsNotKnownIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"nothing is there":       {`{"data":{}}`, "the answer has no newest version"},
		"deleted":                {metadata(2, "2026-02-01T10:00:00Z", "null", `,"deletion_time":"2026-02-02T10:00:00Z"`), "the newest version is deleted"},
		"destroyed":              {metadata(2, "2026-02-01T10:00:00Z", "null", `,"destroyed":true`), "the newest version is deleted"},
		"a period that is none":  {metadata(2, "2026-02-01T10:00:00Z", `{"rotation-period":"monthly"}`, ""), "should be a duration such as 720h"},
		"a period below nothing": {metadata(2, "2026-02-01T10:00:00Z", `{"rotation-period":"-1h"}`, ""), "should be a duration such as 720h"},
		"no JSON":                {"<html>", "the answer is not what was expected"},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newShopBench(t)
			b.vault.known = map[string]string{"secret/metadata/prod-app/" + shopchart.Services()[0]: c.answer}
			_, err := StoredSecrets(t.Context(), b.Env)
			require.ErrorContains(t, err, "look at the secrets of "+shopchart.Services()[0])
			require.ErrorContains(t, err, c.want)
			noSecrets(t, b, err)
		})
	}
}

package secrets_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/secrets"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

const someSecret = shoptest.VaultBase + "/order-processing"

func TestASecretIsWrittenOnlyOverTheVersionThatWasRead(t *testing.T) {
	v := shoptest.StartVault(t, "writer")
	kv := &secrets.KV{Vault: v.As("writer")}
	written := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	v.Put("order-processing", map[string]string{"db-user": "a"}, written)
	read, err := kv.Read(t.Context(), someSecret)
	require.NoError(t, err)
	require.Equal(t, secrets.Stored{Values: map[string]string{"db-user": "a"}, Version: 1, Written: written}, read)
	require.NoError(t, kv.Write(t.Context(), someSecret, map[string]string{"db-user": "b"}, 1))
	require.EqualError(t, kv.Write(t.Context(), someSecret, map[string]string{"db-user": "hidden-word"}, 1),
		"writing secret/data/prod-app/order-processing into Vault over version 1: 400 Bad Request: check-and-set parameter did not match the current version")
	require.NoError(t, kv.Describe(t.Context(), someSecret, map[string]string{"rotation-period": "720h"}))
	newest := v.Newest("order-processing")
	require.Equal(t, "b", newest.Values["db-user"])
	require.Equal(t, 2, newest.Version)
	require.Equal(t, map[string]string{"rotation-period": "720h"}, newest.Custom)
	require.Equal(t, 1, v.Logins(), "one for all calls")
	require.Equal(t, 1, v.Tokens())
	kv.Leave(t.Context())
	require.Zero(t, v.Tokens(), "it is given back")
	_, err = kv.Read(t.Context(), someSecret)
	require.NoError(t, err)
	require.Equal(t, 2, v.Logins())
	kv.Leave(t.Context())
	kv.Leave(t.Context())
	require.Zero(t, v.Tokens())
}

func TestATokenIsNotUsedInTheSecondHalfOfItsLife(t *testing.T) {
	v := shoptest.StartVault(t, "writer")
	v.Put("order-processing", map[string]string{"db-user": "a"}, time.Now())
	v.Lease = time.Second
	kv := &secrets.KV{Vault: v.As("writer")}
	defer kv.Leave(t.Context())
	require.Eventually(t, func() bool {
		_, err := kv.Read(t.Context(), someSecret)
		return err == nil && v.Logins() > 1
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, 1, v.Tokens(), "the old one is given back")
}

func TestWhatMayNotBeWrittenIsTold(t *testing.T) {
	v := shoptest.StartVault(t, "writer")
	kv := &secrets.KV{Vault: v.As("order-processing")}
	v.Put("order-processing", map[string]string{"db-user": "a"}, time.Now())
	require.ErrorContains(t, kv.Write(t.Context(), someSecret, nil, 1), "403 Forbidden: permission denied")
	require.ErrorContains(t, kv.Describe(t.Context(), someSecret, nil), "writing secret/metadata/prod-app/order-processing into Vault: 403 Forbidden")
	writer := &secrets.KV{Vault: v.As("writer")}
	_, err := writer.Read(t.Context(), shoptest.VaultBase+"/none")
	require.ErrorContains(t, err, "reading secret/data/prod-app/none from Vault: 404 Not Found")
	kv.Leave(t.Context())
	writer.Leave(t.Context())
	require.Zero(t, v.Tokens())
}

func TestAStoredSecretNeverPrintsItself(t *testing.T) {
	s := secrets.Stored{Values: map[string]string{"db-password": "hidden-word"}}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), s.LogValue().String()} {
		require.NotContains(t, text, "hidden-word")
	}
}

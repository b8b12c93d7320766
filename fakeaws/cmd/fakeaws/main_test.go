package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func run(ctx context.Context, args ...string) (string, error) {
	var out, errs bytes.Buffer
	c := newCommand(&out, &errs)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	return out.String() + errs.String(), err
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out, err := run(ctx, "serve", "--kms-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--state="+t.TempDir())
	require.NoError(t, err)
	require.Contains(t, out, `"msg":"serving"`)
	require.Contains(t, out, "alias/vault-unseal")
}

func TestWrongUseIsRefused(t *testing.T) {
	_, err := run(t.Context(), "serve", "--loud")
	require.ErrorContains(t, err, "unknown flag: --loud")
	_, err = run(t.Context(), "serve", "now")
	require.ErrorContains(t, err, `unknown command "now"`)
	out, err := run(t.Context(), "serve", "--help")
	require.NoError(t, err)
	require.Contains(t, out, "--kubeconfig")
}

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheRegistryServesUntilItIsTold(t *testing.T) {
	bundle := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(bundle, "oci"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bundle, "oci", "index.json"), []byte(`{"schemaVersion":2}`), 0o644))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"--bundle=" + bundle, "--listen=" + addr}) }()
	require.Eventually(t, func() bool {
		resp, err := http.Get(fmt.Sprintf("http://%s/v2/", addr))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, 5*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

func TestAFolderThatIsNoBundleAndAWrongFlagAreErrors(t *testing.T) {
	require.ErrorContains(t, run(t.Context(), []string{"--bundle=" + t.TempDir()}), "read the image layout")
	require.ErrorContains(t, run(t.Context(), []string{"--bundles=x"}), "not defined")
}

package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestASecondWaitsForTheFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "lock")
	unlock, err := Lock(t.Context(), path, "the thing")
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		second, err := Lock(t.Context(), path, "the thing")
		if err == nil {
			second()
		}
		got <- err
	}()
	select {
	case <-got:
		t.Fatal("two hold the lock")
	case <-time.After(3 * poll):
	}
	unlock()
	require.NoError(t, <-got)
	require.FileExists(t, path, "removing it would let two in")
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, "the thing")
	require.NoError(t, err)
	defer unlock()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	_, err = Lock(ctx, path, "the thing")
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "wait for another meshsim to finish with the thing")
}

func TestATryDoesNotWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, held, err := Try(path, "the thing")
	require.NoError(t, err)
	require.False(t, held)
	_, held, err = Try(path, "the thing")
	require.NoError(t, err)
	require.True(t, held)
	unlock()
	unlock, held, err = Try(path, "the thing")
	require.NoError(t, err)
	require.False(t, held)
	unlock()
}

func TestAFolderThatCannotBeMadeIsAnEnvironmentFault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Lock(t.Context(), filepath.Join(file, "lock"), "the thing")
	require.Equal(t, fault.Environment, fault.KindOf(err))
}

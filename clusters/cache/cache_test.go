package cache_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
)

func TestVariableMovesTheCache(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv(cache.EnvVar, "here")
	dir, err := cache.Default()
	require.NoError(t, err)
	want, err := filepath.Abs("here")
	require.NoError(t, err)
	require.Equal(t, want, string(dir), "a relative path is made absolute: other programs run elsewhere")
	require.Equal(t, filepath.Join(want, "clusters", "shop"), dir.Cluster("shop"))
	require.Equal(t, dir.Clusters(), filepath.Dir(dir.Cluster("shop")))
}

func TestDefaultIsBelowTheUsersCache(t *testing.T) {
	t.Setenv(cache.EnvVar, "")
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	dir, err := cache.Default()
	require.NoError(t, err)
	require.Equal(t, "/somewhere/meshsim", string(dir))
	require.Equal(t, []string{"/somewhere/meshsim/engine", "/somewhere/meshsim/bundles", "/somewhere/meshsim/build"},
		[]string{dir.Engine(), dir.Bundles(), dir.Build()})
}

func TestNoHomeIsAnErrorThatNamesTheMend(t *testing.T) {
	for _, name := range []string{cache.EnvVar, "XDG_CACHE_HOME", "HOME"} {
		t.Setenv(name, "")
	}
	_, err := cache.Default()
	require.ErrorContains(t, err, "set "+cache.EnvVar)
}

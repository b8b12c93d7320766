package kind

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

func TestTwoRehearsalsDoNotShareACluster(t *testing.T) {
	d := cache.Dir(t.TempDir())
	release, err := Occupy(d, "one")
	require.NoError(t, err)
	other, err := Occupy(d, "two")
	require.NoError(t, err, "another cluster is free")
	other()
	_, err = Occupy(d, "one")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "another rehearsal is under way on cluster one")
	release()
	release, err = Occupy(d, "one")
	require.NoError(t, err)
	release()
}

package bundle

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
)

func TestABundleIsPulledWhereRegistriesAnswerAndBuiltElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		spoil    func(*registryOf)
		official bool // the image that only a registry has
	}{
		"a registry that answers":               {func(*registryOf) {}, true},
		"one that is not there":                 {func(r *registryOf) { r.Close() }, false},
		"one that answers and gives no content": {func(r *registryOf) { r.refuse = func(int) bool { return true } }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRegistry(t)
			c.spoil(r)
			lock := parsed(t, strings.ReplaceAll(smallLock, "registry.example", r.host))
			b, err := makeBundle(t.Context(), lock, options(cache.Dir(t.TempDir()), tinyCheckout(t), fakeGo()))
			require.NoError(t, err)
			require.NoError(t, b.Verify(t.Context()))
			_, err = b.Image("tiny")
			require.NoError(t, err, "our own are built everywhere")
			_, err = b.Image("official")
			require.Equal(t, c.official, err == nil, "%v", err)
		})
	}
}

func TestWhatCannotBePulledNorBuiltTellsBoth(t *testing.T) {
	r := startRegistry(t)
	r.Close()
	lock := parsed(t, strings.ReplaceAll(smallLock, "registry.example", r.host))
	_, err := makeBundle(t.Context(), lock, options(cache.Dir(t.TempDir()), t.TempDir(), fakeGo()))
	require.ErrorContains(t, err, "no source checkout")
	require.ErrorContains(t, err, "registry "+r.host+" does not answer")
}

func TestMakingABundleEndsWithItsContext(t *testing.T) {
	r := startRegistry(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	lock := parsed(t, strings.ReplaceAll(smallLock, "registry.example", r.host))
	_, err := makeBundle(ctx, lock, options(cache.Dir(t.TempDir()), tinyCheckout(t), fakeGo()))
	require.ErrorIs(t, err, context.Canceled)
}

package stack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/topology"
)

// fakeImages has every image and, by name, the charts it is given.
type fakeImages struct {
	charts map[string]string
	lacks  string
	origin string // "": built
}

func (f fakeImages) Image(name string) (bundle.Image, error) {
	if name == f.lacks {
		return bundle.Image{}, fmt.Errorf("image %s is not in the bundle", name)
	}
	return bundle.Image{Name: name, Ref: "meshsim.local/" + name + ":v1", Version: "15.14-0+deb12u1", Origin: cmp.Or(f.origin, bundle.OriginBuilt)}, nil
}

func (f fakeImages) Chart(name string) (string, error) {
	if dir, ok := f.charts[name]; ok {
		return dir, nil
	}
	return "", fmt.Errorf("chart %s is not in the bundle", name)
}

// fakeReleases remembers what Helm would have been asked for.
type fakeReleases struct {
	mu       sync.Mutex
	calls    []string
	values   map[string]map[string]any
	onPut    func(name string)
	onDrop   func(name string)
	putFail  error
	dropFail error
	fail     []error // of the first puts
}

func (f *fakeReleases) Put(_ context.Context, _ *Env, r release) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "put "+r.Namespace+"/"+r.Name)
	if f.values == nil {
		f.values = map[string]map[string]any{}
	}
	f.values[r.Name] = r.Values
	if f.onPut != nil {
		f.onPut(r.Name)
	}
	if len(f.fail) > 0 {
		err := f.fail[0]
		f.fail = f.fail[1:]
		return err
	}
	return f.putFail
}

func (f *fakeReleases) Drop(_ context.Context, _ *Env, name, namespace string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "drop "+namespace+"/"+name)
	if f.onDrop != nil {
		f.onDrop(name)
	}
	return f.dropFail
}

// bench is an Env whose every edge is a fake.
type bench struct {
	*Env
	cluster  *fakeCluster
	vault    *fakeVault
	releases *fakeReleases
	said     *bytes.Buffer // log and progress
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{cluster: newFakeCluster(t), vault: newFakeVault(t), releases: &fakeReleases{}, said: &bytes.Buffer{}}
	b.cluster.stored = b.cluster.ready
	b.cluster.put("/api/v1/namespaces/vault/secrets/"+vaultTLSSecret, b.vault.secret())
	b.Env = &Env{
		Kube: b.cluster.client(t), Images: fakeImages{}, Mesh: MeshStandIn,
		Fit:         topology.Fit{CPU: 0.1, Memory: 0.5},
		KMSEndpoint: "http://test-aws:4566",
		Log:         slog.New(slog.NewTextHandler(b.said, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Progress:    progress.New(b.said),
		releases:    b.releases, dialVault: b.vault.dial, patience: 10 * time.Second,
	}
	return b
}

func TestComponentsComeInTheOrderTheyCanBeInstalledIn(t *testing.T) {
	var names []string
	for _, c := range Components() {
		names = append(names, c.Name())
	}
	require.Equal(t, []string{"metrics-server", "monitoring", "shop", "cert-manager", "vault", "issuer", "mesh", "rbac"}, names)
}

func TestAnUnknownComponentIsWrongUseAndListsThoseThereAre(t *testing.T) {
	_, err := ByName("istio")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, `there is no component "istio"`)
	require.ErrorContains(t, err, "cert-manager, vault, issuer, mesh, rbac")
	c, err := ByName("vault")
	require.NoError(t, err)
	require.Equal(t, "vault", c.Name())
}

type brokenComponent struct{ err error }

func (brokenComponent) Name() string                             { return "broken" }
func (b brokenComponent) Install(context.Context, *Env) error    { return b.err }
func (b brokenComponent) Ready(context.Context, *Env) error      { return b.err }
func (brokenComponent) Remove(ctx context.Context, _ *Env) error { <-ctx.Done(); return ctx.Err() }

func TestAFailedComponentIsAFaultOfTheEnvironmentAndIsShown(t *testing.T) {
	var said bytes.Buffer
	env := &Env{Progress: progress.New(&said), patience: 20 * time.Millisecond}
	c := reported{Component: brokenComponent{errors.New("no space")}}
	err := c.Install(t.Context(), env)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "install broken: no space")
	require.Contains(t, said.String(), "✗ install broken")
	err = c.Remove(t.Context(), env)
	require.ErrorIs(t, err, context.DeadlineExceeded, "each part has a time limit of its own")
	require.Equal(t, fault.Environment, fault.KindOf(err))
}

func TestAnInterruptedComponentIsNoFaultOfTheEnvironment(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := reported{Component: brokenComponent{ctx.Err()}}.Install(ctx, &Env{})
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, fault.KindOf(err))
}

func TestAFaultThatIsKnownAlreadyKeepsItsKind(t *testing.T) {
	err := reported{Component: brokenComponent{fault.NewInvalid(errors.New("mesh istio"), "")}}.Install(t.Context(), &Env{})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestUntilGivesTheLastErrorWhenItsTimeIsUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := until(ctx, "wait for the tide", time.Millisecond, func(context.Context) error { return errors.New("still low") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, strings.HasPrefix(err.Error(), "wait for the tide: "), err.Error())
	require.True(t, strings.HasSuffix(err.Error(), "last: still low"), err.Error())
}

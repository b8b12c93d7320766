package bundle

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
)

func parsed(t *testing.T, text string) *Lock {
	t.Helper()
	l, err := ParseLock([]byte(text))
	require.NoError(t, err)
	return l
}

// fakeGo stands for the go command: what it "compiles" is all the sources.
func fakeGo() *command.Fake {
	return &command.Fake{Respond: func(c command.Cmd) (command.Output, error) {
		var text []byte
		for _, f := range []string{"tiny/cmd/tiny/main.go", "tiny/words/data/hello.txt"} {
			t, err := os.ReadFile(filepath.Join(c.Dir, f))
			if err != nil {
				return command.Output{}, err
			}
			text = append(text, t...)
		}
		// As large as a small program, and not to be compressed away.
		noise := rand.NewChaCha8([32]byte{})
		more := make([]byte, 64<<10)
		noise.Read(more)
		out := c.Argv[slices.Index(c.Argv, "-o")+1]
		return command.Output{}, os.WriteFile(out, append(text, more...), 0o755)
	}}
}

func options(d cache.Dir, source string, r command.Runner) BuildOptions {
	return BuildOptions{Cache: d, Source: source, Runner: r, Log: slog.New(slog.DiscardHandler), Progress: progress.Discard()}
}

// builtTiny is the bundle of smallLock in a cache of its own.
func builtTiny(t *testing.T) (*Bundle, cache.Dir) {
	t.Helper()
	d := cache.Dir(t.TempDir())
	b, err := build(t.Context(), parsed(t, smallLock), options(d, tinyCheckout(t), fakeGo()))
	require.NoError(t, err)
	return b, d
}

func TestABuildMakesABundleThatOpensAndVerifies(t *testing.T) {
	lock, source, d, runner := parsed(t, smallLock), tinyCheckout(t), cache.Dir(t.TempDir()), fakeGo()
	_, err := open(d, lock, source)
	require.ErrorIs(t, err, ErrNotBuilt)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "meshsim bundle build")

	b, err := build(t.Context(), lock, options(d, source, runner))
	require.NoError(t, err)
	require.Len(t, runner.Lines(), 1)
	require.NoError(t, b.Verify(t.Context()))
	i, err := b.Image("tiny")
	require.NoError(t, err)
	require.Equal(t, "meshsim.local/tiny:"+i.Version, i.Ref)
	require.Equal(t, OriginBuilt, i.Origin)
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, i.Digest)
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, i.Config)
	_, err = b.Image("official")
	require.ErrorContains(t, err, "meshsim bundle pull")
	_, err = b.Chart("linkerd-crds")
	require.Equal(t, fault.Environment, fault.KindOf(err))

	for _, from := range []string{source, ""} {
		again, err := open(d, lock, source)
		require.NoError(t, err, from)
		require.Equal(t, b.Hash, again.Hash, from)
	}
	again, err := build(t.Context(), lock, options(d, source, runner))
	require.NoError(t, err)
	require.Equal(t, b.Images(), again.Images())
	require.Len(t, runner.Lines(), 1, "an unchanged lock does no work the second time")
}

func TestABuildInAnotherPlaceGivesTheSameDigests(t *testing.T) {
	var both [2]*Bundle
	for i := range both {
		var err error
		both[i], err = build(t.Context(), parsed(t, smallLock), options(cache.Dir(t.TempDir()), tinyCheckout(t), command.Exec{}))
		require.NoError(t, err)
	}
	a, b := both[0], both[1]
	require.Equal(t, a.Images(), b.Images())
	require.Equal(t, a.Hash, b.Hash)
	require.Equal(t, a.rec.Index, b.rec.Index)
}

func TestAChangedProgramGetsAnotherReferenceAndTheOldBundleStays(t *testing.T) {
	lock, source, d := parsed(t, smallLock), tinyCheckout(t), cache.Dir(t.TempDir())
	first, err := build(t.Context(), lock, options(d, source, fakeGo()))
	require.NoError(t, err)
	put(t, filepath.Join(source, "tiny/words/data/hello.txt"), "hullo\n")
	_, err = open(d, lock, source)
	require.ErrorIs(t, err, ErrNotBuilt)
	second, err := build(t.Context(), lock, options(d, source, fakeGo()))
	require.NoError(t, err)
	require.NotEqual(t, first.Images()[0].Ref, second.Images()[0].Ref)
	require.NotEqual(t, first.Images()[0].Digest, second.Images()[0].Digest)
	require.NoError(t, first.Verify(t.Context()))
	current, err := Open(d, "")
	require.NoError(t, err)
	require.Equal(t, second.Hash, current.Hash)
}

func TestAProgramThatDoesNotCompileFailsTheBuildAndLeavesNothing(t *testing.T) {
	source, d := tinyCheckout(t), cache.Dir(t.TempDir())
	put(t, filepath.Join(source, "tiny/cmd/tiny/main.go"), "package main\n\nfunc main() { nonsense() }\n")
	_, err := build(t.Context(), parsed(t, smallLock), options(d, source, command.Exec{}))
	require.ErrorContains(t, err, "build go-tiny: compile ./tiny/cmd/tiny")
	require.ErrorContains(t, err, "undefined: nonsense")
	left, err := filepath.Glob(filepath.Join(d.Build(), "*", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = Open(d, "")
	require.ErrorIs(t, err, ErrNotBuilt)
}

func TestABuildOutsideACheckoutSaysWhatToDo(t *testing.T) {
	_, err := build(t.Context(), parsed(t, smallLock), options(cache.Dir(t.TempDir()), t.TempDir(), command.Exec{}))
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, "--source")
}

// scripted is a component whose making is a function; it notes that it ran.
func scripted(ran *[]string, name string, l lane, make func(ctx context.Context, out string) error, deps ...*component) *component {
	return &component{name: name, key: "k", lane: l, deps: deps,
		build: func(ctx context.Context, _ *workshop, c *component, out string, _ *progress.Task) (string, error) {
			for _, d := range c.deps {
				if _, err := os.Stat(d.dir); err != nil {
					return "", err
				}
			}
			*ran = append(*ran, name)
			if make == nil {
				return "", nil
			}
			return "", make(ctx, out)
		}}
}

func testWorkshop(d cache.Dir) *workshop {
	_ = os.MkdirAll(d.Build(), 0o755)
	return newWorkshop(d, &Lock{}, command.Exec{}, slog.New(slog.DiscardHandler), progress.Discard())
}

func TestABuildThatFailedGoesOnWhereItWas(t *testing.T) {
	d, broken := cache.Dir(t.TempDir()), errors.New("broken")
	var ran []string
	plan := func(fail error) []*component {
		first := scripted(&ran, "first", laneGo, nil)
		second := scripted(&ran, "second", lanePack, func(_ context.Context, out string) error {
			return errors.Join(fail, os.WriteFile(filepath.Join(out, "half"), nil, 0o644))
		}, first)
		return []*component{first, second, scripted(&ran, "third", laneGo, nil, second)}
	}
	err := testWorkshop(d).buildAll(t.Context(), plan(broken))
	require.ErrorIs(t, err, broken)
	require.Equal(t, []string{"first", "second"}, ran)
	require.NoDirExists(t, filepath.Join(d.Build(), "second", ".making-k"))

	ran = nil
	require.NoError(t, testWorkshop(d).buildAll(t.Context(), plan(nil)))
	require.Equal(t, []string{"second", "third"}, ran)
	ran = nil
	require.NoError(t, testWorkshop(d).buildAll(t.Context(), plan(nil)))
	require.Empty(t, ran)
}

func TestAnInterruptedBuildEndsAndKeepsWhatWasWhole(t *testing.T) {
	d := cache.Dir(t.TempDir())
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("interrupted")
	var ran []string
	first := scripted(&ran, "first", laneGo, nil)
	second := scripted(&ran, "second", laneGo, func(ctx context.Context, out string) error {
		cancel(stop)
		<-ctx.Done()
		return context.Cause(ctx)
	}, first)
	err := testWorkshop(d).buildAll(ctx, []*component{first, second, scripted(&ran, "third", lanePack, nil, second)})
	require.ErrorIs(t, err, stop)
	require.Equal(t, []string{"first", "second"}, ran)
	require.DirExists(t, filepath.Join(d.Build(), "first", "k"))
	require.NoDirExists(t, filepath.Join(d.Build(), "second", "k"))
}

func TestWhatOnlyServesFinishedComponentsIsNotMadeAgain(t *testing.T) {
	d := cache.Dir(t.TempDir())
	var ran []string
	program := scripted(&ran, "program", laneGo, nil)
	image := scripted(&ran, "image", lanePack, nil, program)
	require.NoError(t, testWorkshop(d).buildAll(t.Context(), []*component{program, image}))
	require.NoError(t, os.RemoveAll(filepath.Join(d.Build(), "program")))
	ran, program.dir, image.dir = nil, "", ""
	require.NoError(t, testWorkshop(d).buildAll(t.Context(), []*component{program, image}))
	require.Empty(t, ran)
}

func TestOldOutputsOfAComponentGoButTheNewestOfThem(t *testing.T) {
	d := cache.Dir(t.TempDir())
	for _, key := range []string{"a", "b", "c"} {
		var ran []string
		c := scripted(&ran, "part", laneGo, nil)
		c.key = key
		require.NoError(t, testWorkshop(d).buildAll(t.Context(), []*component{c}))
	}
	left, err := filepath.Glob(filepath.Join(d.Build(), "part", "*"))
	require.NoError(t, err)
	require.Len(t, left, 2)
	require.DirExists(t, filepath.Join(d.Build(), "part", "c"))
}

func TestASecondBuildWaitsForTheFirstAndGivesUpWhenToldTo(t *testing.T) {
	d := cache.Dir(t.TempDir())
	release, err := lockCache(t.Context(), d, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waited := 0
	_, err = lockCache(ctx, d, func() { waited++ })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, waited)
	release()
	put(t, filepath.Join(d.Bundles(), ".making-x", "half"), "")
	release, err = lockCache(t.Context(), d, nil)
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Join(d.Bundles(), ".making-x"), "what a killed build left is cleared away")
	release()
}

func TestTooLittleDiskIsSaidBeforeTheWork(t *testing.T) {
	d := cache.Dir("/cache")
	ours, upstream := &component{lane: laneGo}, &component{lane: laneGo, upstream: true}
	debian, done := &component{lane: laneDebian}, &component{lane: laneDebian, dir: "there"}
	for name, c := range map[string]struct {
		order  []*component
		freeGi uint64
		enough bool
	}{
		"nothing to do":        {[]*component{done}, 0, true},
		"ours alone":           {[]*component{done, ours}, 1, true},
		"ours without room":    {[]*component{ours}, 0, false},
		"a compiler's work":    {[]*component{upstream}, 7, false},
		"a Debian tree":        {[]*component{ours, debian}, 7, false},
		"everything with room": {[]*component{ours, upstream, debian}, 8, true},
	} {
		err := checkDisk(d, c.order, func(string) (uint64, error) { return c.freeGi << 30, nil })
		require.Equal(t, c.enough, err == nil, "%s: %v", name, err)
		if err != nil {
			require.Equal(t, fault.Environment, fault.KindOf(err), name)
			require.ErrorContains(t, err, cache.EnvVar, name)
		}
	}
}

func TestOldBundlesGoButThoseInUse(t *testing.T) {
	d := cache.Dir(t.TempDir())
	for age, hash := range []string{"newest", "new", "newish", "used", "old", "current"} {
		name := filepath.Join(d.Bundles(), hash, recordFile)
		put(t, name, "{}")
		made := time.Now().Add(-time.Duration(age) * time.Hour)
		require.NoError(t, os.Chtimes(name, made, made))
	}
	put(t, filepath.Join(d.Cluster("c"), "cluster.json"), `{"bundleHash":"used"}`)
	require.NoError(t, dropBundles(d, "current"))
	left, err := os.ReadDir(d.Bundles())
	require.NoError(t, err)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	require.ElementsMatch(t, []string{"newest", "new", "newish", "used", "current"}, names)
}

package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
)

// lockPoll is how often a build asks whether another one has ended.
const lockPoll = 200 * time.Millisecond

// lockCache keeps two builds, pulls or loads from working in one cache at the
// same time, and clears away what a killed one left half done. waiting, when
// not nil, is called once if there is something to wait for.
func lockCache(ctx context.Context, d cache.Dir, waiting func()) (release func(), err error) {
	for _, dir := range []string{d.Build(), d.Bundles()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the cache: %w", err)
		}
	}
	f, err := os.OpenFile(filepath.Join(d.Build(), "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, sweep(d)
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock the cache: %w", err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if err := pause.For(ctx, lockPoll); err != nil {
			f.Close()
			return nil, err
		}
	}
}

// sweep removes bundles that were being made when their maker was killed.
func sweep(d cache.Dir) error {
	left, err := filepath.Glob(filepath.Join(d.Bundles(), ".*"))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("clear away an unfinished bundle: %w", err)
		}
	}
	return nil
}

// keepBundles is how many of the newest bundles stay whatever else holds.
const keepBundles = 3

// dropBundles removes bundles that are neither new, nor among those to keep,
// nor named in the state of a cluster, whose registry may be serving them.
func dropBundles(d cache.Dir, keep ...string) error {
	entries, err := os.ReadDir(d.Bundles())
	if err != nil {
		return err
	}
	type bundle struct {
		hash string
		made time.Time
	}
	var all []bundle
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(d.Bundles(), e.Name(), recordFile))
		if err == nil {
			all = append(all, bundle{e.Name(), info.ModTime()})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].made.After(all[j].made) })
	if len(all) <= keepBundles {
		return nil
	}
	states, err := clusterStates(d)
	if err != nil {
		return err
	}
	for _, b := range all[keepBundles:] {
		if slices.Contains(keep, b.hash) || bytes.Contains(states, []byte(b.hash)) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.Bundles(), b.hash)); err != nil {
			return fmt.Errorf("drop an old bundle: %w", err)
		}
	}
	return nil
}

// clusterStates is what the clusters of this cache have noted about themselves.
func clusterStates(d cache.Dir) ([]byte, error) {
	var all []byte
	err := filepath.WalkDir(d.Clusters(), func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(p, ".json") {
			return err
		}
		text, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all = append(all, text...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read which bundles clusters use: %w", err)
	}
	return all, nil
}

// Free disk that a build wants, in bytes: with Debian trees and compilers at
// work, and with only programs of ours to compile.
const (
	diskForAll  = 8 << 30
	diskForOurs = 1 << 30
)

// checkDisk fails, before long work does, when the cache has too little room.
func checkDisk(d cache.Dir, order []*component, free func(dir string) (uint64, error)) error {
	need := uint64(0)
	for _, c := range order {
		switch {
		case c.dir != "":
		case c.lane == laneDebian || c.upstream:
			need = diskForAll
		default:
			need = max(need, diskForOurs)
		}
	}
	have, err := free(d.Build())
	if err != nil {
		return fmt.Errorf("look at the free disk: %w", err)
	}
	if have >= need {
		return nil
	}
	return fault.NewEnvironment(
		fmt.Errorf("the bundle's cache %s has %.1f GiB of free disk; building wants %d GiB", d, float64(have)/(1<<30), need>>30),
		"free some, or move the cache with "+cache.EnvVar)
}

// freeDisk is how many bytes may still be written below dir.
func freeDisk(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

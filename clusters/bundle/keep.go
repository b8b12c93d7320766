package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/cache"
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
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
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

// dropBundles removes bundles that are neither new, nor the current one, nor
// named in the state of a cluster, whose registry may be serving them.
func dropBundles(d cache.Dir, current string) error {
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
		if b.hash == current || bytes.Contains(states, []byte(b.hash)) {
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

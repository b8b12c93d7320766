package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CgroupRoot is where Linux's control groups are mounted.
const CgroupRoot = "/sys/fs/cgroup"

const thawPoll = time.Second

// Thaw lets the frozen processes of containers go on, so that they can be
// killed. Under control groups of version 1 a frozen process does not die, and
// a container's own runtime, killed at the wrong moment, leaves its pods'
// processes frozen. ids are the containers' full ids; root is CgroupRoot. Where
// there is nothing to thaw nothing is done.
func Thaw(root string, ids ...string) error {
	var errs []error
	for _, id := range ids {
		for _, pattern := range []string{id, "*/" + id, "*/docker-" + id + ".scope", "*/*/" + id} {
			dirs, err := filepath.Glob(filepath.Join(root, "freezer", pattern))
			if err != nil {
				return fmt.Errorf("find the control group of %q: %w", id, err)
			}
			for _, dir := range dirs {
				errs = append(errs, thawBelow(dir))
			}
		}
	}
	return errors.Join(errs...)
}

// thawBelow thaws a group and all below it.
func thawBelow(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile, which is what is wanted
		}
		if err != nil || entry.Name() != "freezer.state" {
			return err
		}
		state, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(state)) == "THAWED" {
			return nil
		}
		if err := os.WriteFile(path, []byte("THAWED"), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("thaw %s: %w", filepath.Dir(path), err)
		}
		return nil
	})
}

// KeepThawed thaws the containers again and again until stop is called: while
// they are being killed their runtimes may still freeze something.
func KeepThawed(root string, ids ...string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(thawPoll):
				_ = Thaw(root, ids...) // the removal itself tells whether it went well
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

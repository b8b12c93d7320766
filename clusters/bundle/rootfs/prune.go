package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
)

// leftovers are what packaging leaves in a tree that no container needs.
var leftovers = []string{
	"usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian",
	"usr/share/bug", "usr/share/doc-base", "usr/share/menu", "usr/share/common-licenses", "usr/share/pixmaps",
	"var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/debconf/*", "var/cache/ldconfig/*", "var/lib/dpkg/*-old",
	"var/log/*", "tmp/*", "var/tmp/*", "run/*", "etc/apt/apt.conf.d/01autoremove",
	"etc/resolv.conf", "etc/hosts", "etc/hostname",
}

// Prune deletes the leftovers of packaging, and what further globs (relative
// to the tree) match.
func Prune(dir string, globs ...string) error {
	for _, g := range append(append([]string(nil), leftovers...), globs...) {
		if !filepath.IsLocal(g) {
			return fmt.Errorf("prune %q: the glob leaves the tree", g)
		}
		matches, err := filepath.Glob(filepath.Join(dir, g))
		if err != nil {
			return fmt.Errorf("prune %q: %w", g, err)
		}
		for _, name := range matches {
			if err := os.RemoveAll(name); err != nil {
				return fmt.Errorf("prune %q: %w", g, err)
			}
		}
	}
	return nil
}

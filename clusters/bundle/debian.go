package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"meshsim.dev/meshsim/clusters/bundle/rootfs"
	"meshsim.dev/meshsim/clusters/progress"
)

// A Debian component's folder holds the tree and the versions of its packages.
const (
	treeFolder   = "tree"
	versionsFile = "versions.json"
)

// buildBase bootstraps the tree that the others start from.
func buildBase(ctx context.Context, w *workshop, _ *component, out string, t *progress.Task) (string, error) {
	t.Detail("debootstrap")
	return w.lock.Debian.Suite, w.debian.Base(ctx, filepath.Join(out, treeFolder))
}

// buildTree copies the base and adds users and packages.
func buildTree(tree Tree) builder {
	return func(ctx context.Context, w *workshop, c *component, out string, t *progress.Task) (string, error) {
		dir := filepath.Join(out, treeFolder)
		base := filepath.Join(c.dep("debian-base").dir, treeFolder)
		if err := w.run(ctx, "cp", "-a", "--reflink=auto", base, dir); err != nil {
			return "", fmt.Errorf("copy the base tree: %w", err)
		}
		for _, u := range tree.Users {
			id := strconv.Itoa(u.ID)
			if err := w.debian.Run(ctx, dir, nil, "groupadd", "--system", "--gid", id, u.Name); err != nil {
				return "", err
			}
			if err := w.debian.Run(ctx, dir, nil, "useradd", "--system", "--uid", id, "--gid", id,
				"--home-dir", u.Home, "--shell", "/bin/sh", u.Name); err != nil {
				return "", err
			}
		}
		t.Detail("%d packages and what they need", len(tree.Packages))
		if err := w.debian.Install(ctx, dir, tree.Packages); err != nil {
			return "", err
		}
		versions, err := w.debian.Versions(ctx, dir)
		if err != nil {
			return "", err
		}
		if err := rootfs.Prune(dir); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d packages", len(versions)), writeJSON(filepath.Join(out, versionsFile), versions)
	}
}

// packageVersion is the version that a tree holds of a Debian package.
func packageVersion(tree *component, pkg string) (string, error) {
	var versions map[string]string
	text, err := os.ReadFile(filepath.Join(tree.dir, versionsFile))
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(text, &versions); err != nil {
		return "", fmt.Errorf("read %s of %s: %w", versionsFile, tree.name, err)
	}
	v, ok := versions[pkg]
	if !ok {
		return "", fmt.Errorf("package %s is not in %s", pkg, tree.name)
	}
	return v, nil
}

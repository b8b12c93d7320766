// Package cache says where meshsim keeps what it can make again. Everything
// meshsim writes outside a run folder is below one directory.
package cache

import (
	"fmt"
	"os"
	"path/filepath"
)

// EnvVar names the variable that moves the cache.
const EnvVar = "MESHSIM_CACHE"

// Dir is the root of the cache; its methods name the rooms below it.
type Dir string

// Default returns $MESHSIM_CACHE, or meshsim below the user's cache folder.
func Default() (Dir, error) {
	if d := os.Getenv(EnvVar); d != "" {
		abs, err := filepath.Abs(d)
		if err != nil {
			return "", fmt.Errorf("%s=%q: %w", EnvVar, d, err)
		}
		return Dir(abs), nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w; set %s", err, EnvVar)
	}
	return Dir(filepath.Join(base, "meshsim")), nil
}

// Engine holds the private container engine: its data root, binary copies and log.
func (d Dir) Engine() string { return filepath.Join(string(d), "engine") }

// Bundles holds one folder a bundle, named by the lock's hash.
func (d Dir) Bundles() string { return filepath.Join(string(d), "bundles") }

// Build holds the parts of a bundle while it is being made.
func (d Dir) Build() string { return filepath.Join(string(d), "build") }

// Cluster holds the state and kubeconfig of one cluster.
func (d Dir) Cluster(name string) string { return filepath.Join(string(d), "clusters", name) }

// Clusters holds one folder a cluster.
func (d Dir) Clusters() string { return filepath.Join(string(d), "clusters") }

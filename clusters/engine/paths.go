package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"meshsim.dev/meshsim/clusters/cache"
)

// runRoot holds what must have a short path (a socket's may have 107 bytes) and
// must not outlive a reboot.
const runRoot = "/run/meshsim-engine"

// paths are the private engine's files. One engine belongs to one cache folder.
type paths struct {
	key string // names this engine where names are shared: links, cgroup, rules

	dir     string // below the cache
	data    string // images and containers
	lock    string
	probe   string
	config  string // dockerd's
	log     string
	wrapper string

	root             string // of all private engines' run folders
	run              string
	state            string
	socket           string
	containerdSocket string
}

func pathsFor(d cache.Dir, root string) paths {
	sum := sha256.Sum256([]byte(d))
	key := hex.EncodeToString(sum[:4])
	dir, run := d.Engine(), filepath.Join(root, key)
	return paths{
		key:              key,
		root:             root,
		dir:              dir,
		data:             filepath.Join(dir, "data"),
		lock:             filepath.Join(dir, "lock"),
		probe:            filepath.Join(dir, "host-probe.json"),
		config:           filepath.Join(dir, "daemon.json"),
		log:              filepath.Join(dir, "dockerd.log"),
		wrapper:          filepath.Join(dir, "bin", WrapperName),
		run:              run,
		state:            filepath.Join(run, "engine.json"),
		socket:           filepath.Join(run, "docker.sock"),
		containerdSocket: filepath.Join(run, "containerd.sock"),
	}
}

func (p paths) bridge() string        { return "msh-" + p.key } // a link's name has at most 15 bytes
func (p paths) cgroup() string        { return "meshsim-" + p.key }
func (p paths) ruleComment() string   { return "meshsim-engine-" + p.key }
func (p paths) dockerHost() string    { return "unix://" + p.socket }
func (p paths) containerdLog() string { return filepath.Join(p.dir, "containerd.log") }

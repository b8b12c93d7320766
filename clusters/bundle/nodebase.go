package bundle

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"meshsim.dev/meshsim/clusters/bundle/pack"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/progress"
)

//go:embed nodefiles
var nodeFS embed.FS

// nodeFiles is a fingerprint of what we add to a node by ourselves.
func nodeFiles() string {
	f := &fingerprint{}
	_ = fs.WalkDir(nodeFS, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := nodeFS.ReadFile(p) // an embedded file can always be read
			f.add(p, string(text))
		}
		return err
	})
	return f.sum()
}

// layerFile is the record of a layer that a component keeps beside its blob.
const layerFile = "layer.json"

// buildNodeBase makes the lowest layer of a node image: the Debian tree with
// kind's files and ours, and only those services that a node needs.
func buildNodeBase(n NodeRecipe, src checkout) builder {
	return func(ctx context.Context, w *workshop, c *component, out string, t *progress.Task) (string, error) {
		dir := filepath.Join(out, treeFolder)
		if err := w.run(ctx, "cp", "-a", "--reflink=auto", filepath.Join(c.dep("debian-"+n.Tree).dir, treeFolder), dir); err != nil {
			return "", fmt.Errorf("copy the Debian tree: %w", err)
		}
		kind, err := w.moduleDir(ctx, string(src), "sigs.k8s.io/kind")
		if err != nil {
			return "", err
		}
		for _, step := range []func() error{
			func() error { return copyKindFiles(filepath.Join(kind, "images", "base", "files"), dir) },
			func() error { return copyOwnFiles(dir) },
			func() error { return trimServices(dir) },
			func() error { return placeCNI(dir) },
			func() error { return w.writeRuntimeSpec(ctx, dir) },
		} {
			if err := step(); err != nil {
				return "", fmt.Errorf("furnish the node's tree: %w", err)
			}
		}
		t.Detail("compressing")
		entries, err := pack.Tree(dir, "/", nil)
		if err != nil {
			return "", err
		}
		layer, err := pack.WriteLayer(filepath.Join(out, "blobs"), entries, pack.Compressed)
		if err != nil {
			return "", err
		}
		return megabytes(layer.Length), writeJSON(filepath.Join(out, layerFile), layer)
	}
}

// readLayer is the layer that the component in dir keeps.
func readLayer(dir string) (pack.Layer, error) {
	var l pack.Layer
	text, err := os.ReadFile(filepath.Join(dir, layerFile))
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("read %s: %w", layerFile, err)
	}
	l.File = filepath.Join(dir, "blobs", "sha256", l.Blob.Hex)
	return l, nil
}

// copyKindFiles takes kind's own files for a node out of its module.
func copyKindFiles(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if filepath.Base(rel) == "clean-install" || strings.Contains(rel, "fuse-overlayfs") {
			return nil // for kind's own image build, and for a snapshotter that is not here
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		perm := fs.FileMode(0o644)
		if bytes.HasPrefix(text, []byte("#!")) {
			perm = 0o755
		}
		return writeBelow(to, rel, text, perm)
	})
}

func copyOwnFiles(to string) error {
	root, err := fs.Sub(nodeFS, "nodefiles/root")
	if err != nil {
		return err
	}
	return fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		return writeBelow(to, p, text, 0o644)
	})
}

func writeBelow(root, rel string, text []byte, perm fs.FileMode) error {
	name := filepath.Join(root, rel)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, text, perm); err != nil {
		return err
	}
	return os.Chmod(name, perm)
}

// unwanted are the units that Debian's packages would start in a node.
var unwanted = []string{
	"lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
	"lib/systemd/system/multi-user.target.wants/*",
	"etc/systemd/system/*.wants/*",
	"lib/systemd/system/local-fs.target.wants/*",
	"lib/systemd/system/sockets.target.wants/*udev*",
	"lib/systemd/system/sockets.target.wants/*initctl*",
	"lib/systemd/system/basic.target.wants/*",
}

// trimServices leaves the node its container runtime and its kubelet.
func trimServices(dir string) error {
	for _, glob := range unwanted {
		matches, err := filepath.Glob(filepath.Join(dir, glob))
		if err != nil {
			return err
		}
		for _, m := range matches {
			if err := os.RemoveAll(m); err != nil {
				return err
			}
		}
	}
	links := map[string]string{
		"etc/systemd/system/systemd-binfmt.service": "/dev/null", // would register with the host's kernel
	}
	for _, unit := range []string{"kubelet", "containerd", "undo-mount-hacks"} {
		links["etc/systemd/system/multi-user.target.wants/"+unit+".service"] = "/etc/systemd/system/" + unit + ".service"
	}
	for link, target := range links {
		if err := symlinkBelow(dir, link, target); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "sbin/init")); errors.Is(err, fs.ErrNotExist) {
		if err := symlinkBelow(dir, "sbin/init", "/usr/lib/systemd/systemd"); err != nil {
			return err
		}
	}
	for _, d := range []string{"etc/kubernetes/manifests", "etc/containerd/certs.d", "etc/cni/net.d", "kind/manifests"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	return writeBelow(dir, "etc/systemd/journald.conf.d/10-meshsim.conf", []byte("[Journal]\nReadKMsg=no\n"), 0o644)
}

func symlinkBelow(dir, link, target string) error {
	name := filepath.Join(dir, link)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, name)
}

// placeCNI moves the plugins that nodenet's configuration names to where the
// kubelet's runtime looks for them, and drops the others.
func placeCNI(dir string) error {
	bin := filepath.Join(dir, "opt", "cni", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	from := filepath.Join(dir, "usr", "lib", "cni")
	for _, plugin := range []string{"host-local", "loopback", "portmap", "ptp"} {
		if err := os.Rename(filepath.Join(from, plugin), filepath.Join(bin, plugin)); err != nil {
			return fmt.Errorf("CNI plugin: %w", err)
		}
	}
	return os.RemoveAll(from)
}

// writeRuntimeSpec makes the runtime specification that every container of a
// node starts from: containerd's default, kind's hook, no resource limits.
func (w *workshop) writeRuntimeSpec(ctx context.Context, dir string) error {
	out, err := w.debian.Output(ctx, dir, nil, "ctr", "oci", "spec")
	if err != nil {
		return err
	}
	spec, err := withKindHook(out.Stdout)
	if err != nil {
		return err
	}
	return writeBelow(dir, "etc/containerd/cri-base.json", spec, 0o644)
}

func withKindHook(raw []byte) ([]byte, error) {
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("read the default runtime specification: %w", err)
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return nil, errors.New("the default runtime specification has no process")
	}
	delete(process, "rlimits")
	spec["hooks"] = map[string]any{
		"createContainer": []any{map[string]any{"path": "/kind/bin/mount-product-files.sh"}},
	}
	return json.MarshalIndent(spec, "", "  ")
}

// moduleDir downloads a module that the go.mod in dir pins and returns where it is.
func (w *workshop) moduleDir(ctx context.Context, dir, module string) (string, error) {
	out, err := w.runner.Run(ctx, command.Cmd{
		Argv: []string{"go", "mod", "download", "-json", module}, Env: []string{"GOWORK=off", "GOFLAGS="}, Dir: dir,
	})
	if err != nil {
		return "", fmt.Errorf("download the module %s: %w", module, err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out.Stdout, &m); err != nil || m.Dir == "" {
		return "", fmt.Errorf("download the module %s: no folder in the go command's answer (%v)", module, err)
	}
	return m.Dir, nil
}

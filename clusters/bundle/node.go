package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"meshsim.dev/meshsim/clusters/bundle/pack"
	"meshsim.dev/meshsim/clusters/bundle/rootfs"
	"meshsim.dev/meshsim/clusters/progress"
)

// layersInNode is where a node image keeps the unpacked layers of the images
// inside it. Docker copies a node's /var for each container and shares the
// rest, so only links to these layers lie below /var: nodes start sooner, and
// share the layers' page cache.
const layersInNode = "/kind/layers"

// buildNode makes the node image: base, Kubernetes' programs, and the images
// that a cluster needs before it can pull any.
func buildNode(i LockedImage, n NodeRecipe) builder {
	return func(ctx context.Context, w *workshop, c *component, out string, t *progress.Task) (string, error) {
		base, err := readLayer(c.dep("node-base").dir)
		if err != nil {
			return "", err
		}
		blobs := filepath.Join(out, "blobs")
		if err := shareBlob(base, blobs); err != nil {
			return "", err
		}
		t.Detail("Kubernetes' programs")
		programs, err := pack.WriteLayer(blobs, kubernetesPrograms(c.dep("go-"+n.Kubernetes).dir), pack.Compressed)
		if err != nil {
			return "", err
		}
		work, err := os.MkdirTemp(out, ".work-*")
		if err != nil {
			return "", err
		}
		defer rootfs.Remove(work)
		t.Detail("images inside the node")
		baked, err := w.bakeImages(ctx, c, n, work)
		if err != nil {
			return "", fmt.Errorf("put images into the node: %w", err)
		}
		entries, err := nodeEntries(i, baked, work)
		if err != nil {
			return "", err
		}
		t.Detail("compressing")
		top, err := pack.WriteLayer(blobs, entries, pack.Compressed)
		if err != nil {
			return "", err
		}
		img, err := pack.NewImage(pack.Config{
			Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
			Env:        []string{"PATH=" + defaultPath, "container=docker"},
			StopSignal: "SIGRTMIN+3",
		}, base, programs, top)
		if err != nil {
			return "", err
		}
		version := i.Version + "-" + c.key
		return fmt.Sprintf("%s, %d images inside", megabytes(base.Length+programs.Length+top.Length), len(baked)),
			finishImage(out, localRef(i.Name, version), i.Version, img, baked)
	}
}

// shareBlob links a layer of another component into blobs.
func shareBlob(l pack.Layer, blobs string) error {
	dir := filepath.Join(blobs, "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return linkFile(l.File, filepath.Join(dir, l.Blob.Hex))
}

func kubernetesPrograms(dir string) []pack.Entry {
	var entries []pack.Entry
	for _, p := range []string{"kubeadm", "kubectl", "kubelet"} {
		entries = append(entries, pack.Copy("/usr/bin/"+p, 0o755, filepath.Join(dir, p)))
	}
	return entries
}

// bakeImages builds the images of the recipe and has the node's own containerd
// unpack them, below work/containerd.
func (w *workshop) bakeImages(ctx context.Context, c *component, n NodeRecipe, work string) ([]Image, error) {
	cni := c.dep("go-" + n.CNI)
	all := append([]BakedImage{{
		Ref: localRef(n.CNI, cni.key), Version: cni.key,
		Recipe: Recipe{Program: cniProgram(n), Entrypoint: []string{"/" + n.CNI}},
	}}, n.Images...)
	var baked []Image
	refs := map[name.Reference]v1.Image{}
	var argv, layers []string
	for _, b := range all {
		img, err := cook(c, path.Base(strings.TrimPrefix(b.Program, "./")), b.Recipe, filepath.Join(work, "blobs"), pack.Stored)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.Ref, err)
		}
		record, tag, err := bakedRecord(b, img)
		if err != nil {
			return nil, err
		}
		baked, argv, refs[tag] = append(baked, record), append(argv, b.Ref), img
		ls, err := img.Layers()
		if err != nil {
			return nil, err
		}
		for _, l := range ls {
			h, err := l.Digest()
			if err != nil {
				return nil, err
			}
			layers = append(layers, h.String())
		}
	}
	binds := []rootfs.Bind{
		{Source: filepath.Join(work, "containerd"), Target: "/var/lib/containerd"},
		{Source: filepath.Join(work, "run"), Target: "/run"},
		{Source: filepath.Join(work, "tmp"), Target: "/tmp"},
	}
	tree := filepath.Join(c.dep("node-base").dir, treeFolder)
	for _, b := range binds {
		for _, dir := range []string{b.Source, filepath.Join(tree, b.Target)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
	}
	if err := tarball.MultiRefWriteToFile(filepath.Join(work, "tmp", "images.tar"), refs); err != nil {
		return nil, err
	}
	script, err := nodeFS.ReadFile("nodefiles/import.sh")
	if err != nil {
		return nil, err
	}
	run := append([]string{"/bin/sh", "-c", string(script), "import"}, argv...)
	if err := w.debian.Run(ctx, tree, binds, append(append(run, "--"), layers...)...); err != nil {
		return nil, err
	}
	return baked, dropContent(binds[0].Source, layers)
}

// dropContent removes compressed layers that containerd no longer knows of but
// has not swept yet.
func dropContent(store string, digests []string) error {
	for _, d := range digests {
		algorithm, hex, _ := strings.Cut(d, ":")
		err := os.Remove(filepath.Join(store, "io.containerd.content.v1.content", "blobs", algorithm, hex))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func bakedRecord(b BakedImage, img v1.Image) (Image, name.Tag, error) {
	tag, err := name.NewTag(b.Ref, name.StrictValidation)
	if err != nil {
		return Image{}, tag, err
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, tag, err
	}
	version := b.Version
	if version == "" {
		version = tag.TagStr()
	}
	return Image{
		Name: path.Base(tag.RepositoryStr()), Ref: b.Ref, Version: version,
		Digest: digest.String(), Origin: OriginBuilt,
	}, tag, nil
}

// nodeEntries is the top layer: containerd's store, manifests and version.
func nodeEntries(i LockedImage, baked []Image, work string) ([]pack.Entry, error) {
	store := filepath.Join(work, "containerd")
	if err := moveSnapshots(store, filepath.Join(work, "layers")); err != nil {
		return nil, fmt.Errorf("move unpacked layers: %w", err)
	}
	entries, err := pack.Tree(store, "/var/lib/containerd", func(p string) bool {
		return strings.HasSuffix(p, "/tmpmounts") || strings.HasSuffix(p, "/ingest")
	})
	if err != nil {
		return nil, err
	}
	layers, err := pack.Tree(filepath.Join(work, "layers"), layersInNode, nil)
	if err != nil {
		return nil, err
	}
	entries = append(append(entries, layers...), pack.File("/kind/version", 0o644, []byte(i.Version)))
	for _, m := range []string{"default-cni.yaml", "default-storage.yaml"} {
		text, err := nodeFS.ReadFile("nodefiles/manifests/" + m)
		if err != nil {
			return nil, err
		}
		filled := strings.ReplaceAll(string(text), "NODENET_IMAGE", baked[0].Ref)
		entries = append(entries, pack.File("/kind/manifests/"+m, 0o644, []byte(filled)))
	}
	return entries, nil
}

// moveSnapshots takes each unpacked layer out of containerd's store and leaves
// a link to where the node image has it.
func moveSnapshots(store, layers string) error {
	snapshots := filepath.Join(store, "io.containerd.snapshotter.v1.overlayfs", "snapshots")
	entries, err := os.ReadDir(snapshots)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(layers, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		content := filepath.Join(snapshots, e.Name(), "fs")
		if info, err := os.Lstat(content); err != nil || info.Mode().Type() != fs.ModeDir {
			return fmt.Errorf("%s is no folder (%v)", content, err)
		}
		if err := os.Rename(content, filepath.Join(layers, e.Name())); err != nil {
			return err
		}
		if err := os.Symlink(path.Join(layersInNode, e.Name()), content); err != nil {
			return err
		}
	}
	return nil
}

package bundle

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestTheNodesManifestsNameOnlyImagesThatAreInside(t *testing.T) {
	lock, err := Locked()
	require.NoError(t, err)
	node, _ := lock.image("node")
	inside := map[string]bool{"NODENET_IMAGE": true}
	for _, b := range node.Build.Node.Images {
		inside[b.Ref] = true
	}
	for _, m := range []string{"default-cni.yaml", "default-storage.yaml"} {
		text, err := nodeFS.ReadFile("nodefiles/manifests/" + m)
		require.NoError(t, err)
		found := regexp.MustCompile(`(?m)(?:^\s+image: |--helper-image, )"?([^"\s\]]+)`).FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, found, m)
		for _, f := range found {
			require.True(t, inside[f[1]], "%s names %s", m, f[1])
		}
		for _, doc := range bytes.Split(text, []byte("\n---\n")) {
			var object map[string]any
			require.NoError(t, yaml.UnmarshalStrict(doc, &object), "%s", doc)
			require.NotEmpty(t, object["kind"], "%s", doc)
		}
	}
}

func TestTheCNIManifestIsTheTemplateAndThePatchThatKindFills(t *testing.T) {
	text, err := nodeFS.ReadFile("nodefiles/manifests/default-cni.yaml")
	require.NoError(t, err)
	require.Contains(t, string(text), "would you kindly template this file")
	require.Contains(t, string(text), "would you kindly patch this file")
	parsed, err := template.New("cni").Parse(string(text))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, parsed.Execute(&out, struct{ PodSubnet string }{"10.244.0.0/16"}))
	require.Contains(t, out.String(), `value: "10.244.0.0/16"`)
}

func TestTheContainerRuntimeIsConfiguredForHostsThatHoldBackACapability(t *testing.T) {
	text, err := nodeFS.ReadFile("nodefiles/root/etc/containerd/config.toml")
	require.NoError(t, err)
	for _, line := range []string{
		"restrict_oom_score_adj = true", `config_path = "/etc/containerd/certs.d"`,
		`sandbox_image = "registry.k8s.io/pause:3.7"`, `snapshotter = "overlayfs"`, "SystemdCgroup = true",
	} {
		require.Contains(t, string(text), line)
	}
}

func TestTheRuntimeSpecificationGetsKindsHookAndNoLimits(t *testing.T) {
	got, err := withKindHook([]byte(`{"process":{"rlimits":[{"type":"RLIMIT_NOFILE"}],"cwd":"/"},"linux":{}}`))
	require.NoError(t, err)
	var spec struct {
		Process map[string]any
		Hooks   struct{ CreateContainer []struct{ Path string } }
	}
	require.NoError(t, json.Unmarshal(got, &spec))
	require.Equal(t, map[string]any{"cwd": "/"}, spec.Process)
	require.Equal(t, "/kind/bin/mount-product-files.sh", spec.Hooks.CreateContainer[0].Path)
	for _, bad := range []string{"", "{}", "[]"} {
		_, err := withKindHook([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestUnpackedLayersMoveOutOfContainerdsStore(t *testing.T) {
	store, layers := t.TempDir(), filepath.Join(t.TempDir(), "layers")
	snapshots := filepath.Join(store, "io.containerd.snapshotter.v1.overlayfs", "snapshots")
	put(t, filepath.Join(snapshots, "1", "fs", "app"), "app")
	require.NoError(t, os.Mkdir(filepath.Join(snapshots, "1", "work"), 0o711))
	require.NoError(t, moveSnapshots(store, layers))
	require.Equal(t, "app", read(t, filepath.Join(layers, "1", "app")))
	target, err := os.Readlink(filepath.Join(snapshots, "1", "fs"))
	require.NoError(t, err)
	require.Equal(t, "/kind/layers/1", target)
	require.ErrorContains(t, moveSnapshots(store, layers), "is no folder")
}

func TestSweptContentIsRemovedAndWhatIsGoneIsNoError(t *testing.T) {
	store := t.TempDir()
	blob := filepath.Join(store, "io.containerd.content.v1.content/blobs/sha256/aa")
	put(t, blob, "layer")
	put(t, filepath.Join(filepath.Dir(blob), "bb"), "manifest")
	require.NoError(t, dropContent(store, []string{"sha256:aa", "sha256:cc"}))
	require.NoFileExists(t, blob)
	require.FileExists(t, filepath.Join(filepath.Dir(blob), "bb"))
}

func TestANodeStartsOnlyItsRuntimeAndItsKubelet(t *testing.T) {
	dir := t.TempDir()
	for _, unit := range []string{
		"lib/systemd/system/multi-user.target.wants/getty.target", "etc/systemd/system/multi-user.target.wants/cron.service",
		"lib/systemd/system/sockets.target.wants/systemd-initctl.socket", "lib/systemd/system/sockets.target.wants/dbus.socket",
		"lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
	} {
		put(t, filepath.Join(dir, unit), "")
	}
	require.NoError(t, trimServices(dir))
	var wants []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(p, ".wants/") {
			wants = append(wants, filepath.Base(p))
		}
		return err
	}))
	require.ElementsMatch(t, []string{"containerd.service", "kubelet.service", "undo-mount-hacks.service", "dbus.socket"}, wants)
	target, err := os.Readlink(filepath.Join(dir, "etc/systemd/system/systemd-binfmt.service"))
	require.NoError(t, err)
	require.Equal(t, "/dev/null", target)
	target, err = os.Readlink(filepath.Join(dir, "sbin/init"))
	require.NoError(t, err)
	require.Equal(t, "/usr/lib/systemd/systemd", target)
}

func TestKindsFilesAreCopiedWithTheModesTheyNeed(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "usr/local/bin/entrypoint"), "#!/bin/bash\n")
	put(t, filepath.Join(from, "usr/local/bin/clean-install"), "#!/bin/sh\n")
	put(t, filepath.Join(from, "etc/systemd/system/containerd-fuse-overlayfs.service"), "[Unit]\n")
	put(t, filepath.Join(from, "etc/sysctl.d/10.conf"), "a=1\n")
	require.NoError(t, copyKindFiles(from, to))
	require.NoError(t, copyOwnFiles(to))
	modes := map[string]fs.FileMode{}
	require.NoError(t, filepath.WalkDir(to, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(to, p)
		modes[rel] = info.Mode()
		return err
	}))
	require.Equal(t, map[string]fs.FileMode{
		"usr/local/bin/entrypoint": 0o755, "etc/sysctl.d/10.conf": 0o644, "etc/containerd/config.toml": 0o644,
		"etc/systemd/system/containerd.service.d/10-meshsim.conf": 0o644,
	}, modes)
}

func TestOnlyTheCNIPluginsInUseStay(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"host-local", "loopback", "portmap", "ptp", "macvlan"} {
		put(t, filepath.Join(dir, "usr/lib/cni", p), p)
	}
	require.NoError(t, placeCNI(dir))
	left, err := os.ReadDir(filepath.Join(dir, "opt/cni/bin"))
	require.NoError(t, err)
	require.Len(t, left, 4)
	require.NoDirExists(t, filepath.Join(dir, "usr/lib/cni"))
	require.ErrorContains(t, placeCNI(t.TempDir()), "CNI plugin")
}

package pack

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Config is what an image says about how it is run.
type Config struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	WorkingDir string
	StopSignal string
	Labels     map[string]string
}

// NewImage stacks layers, lowest first, into a Linux image for this machine's
// architecture.
func NewImage(c Config, layers ...Layer) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer: l, MediaType: types.OCILayer,
			History: v1.History{CreatedBy: "meshsim bundle build", Created: v1.Time{Time: time.Unix(0, 0).UTC()}},
		})
		if err != nil {
			return nil, fmt.Errorf("append layer %s: %w", l.Blob, err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Config = v1.Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User,
		WorkingDir: c.WorkingDir, StopSignal: c.StopSignal, Labels: c.Labels,
	}
	return mutate.ConfigFile(img, file)
}

// WriteBlobs puts an image's manifest, configuration and layers into
// blobs/sha256, leaving alone what is there, and returns the manifest's descriptor.
func WriteBlobs(blobs string, img v1.Image) (v1.Descriptor, error) {
	dir := filepath.Join(blobs, "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return v1.Descriptor{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return v1.Descriptor{}, err
	}
	for _, l := range layers {
		if err := writeLayerBlob(dir, l); err != nil {
			return v1.Descriptor{}, err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, err
	}
	name, err := img.ConfigName()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if err := writeBlob(dir, name, config); err != nil {
		return v1.Descriptor{}, err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	media, err := img.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: media, Digest: digest, Size: int64(len(manifest))}
	return d, writeBlob(dir, digest, manifest)
}

func writeBlob(dir string, h v1.Hash, content []byte) error {
	name := filepath.Join(dir, h.Hex)
	if err := os.WriteFile(name+".part", content, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

func writeLayerBlob(dir string, l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, h.Hex)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	r, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", h, err)
	}
	defer r.Close()
	if err := copyChecked(name, h, r); err != nil {
		return fmt.Errorf("store layer %s: %w", h, err)
	}
	return nil
}

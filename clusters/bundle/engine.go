package bundle

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

// Engine is what LoadIntoEngine needs of a container engine: the command that
// reaches it. An *engine.Engine is one.
type Engine interface {
	Docker(args ...string) command.Cmd
}

// LoadIntoEngine puts images into a container engine, each only when the
// engine does not have just that one under its reference already.
func (b *Bundle) LoadIntoEngine(ctx context.Context, e Engine, r command.Runner, names ...string) error {
	for _, n := range names {
		i, err := b.Image(n)
		if err != nil {
			return err
		}
		have := e.Docker("image", "inspect", "--format", "{{.Id}}", i.Ref)
		if out, err := r.Run(ctx, have); err == nil && strings.TrimSpace(string(out.Stdout)) == i.Config {
			continue
		}
		if err := b.loadImage(ctx, e, r, i); err != nil {
			return fault.NewEnvironment(fmt.Errorf("load image %s into the container engine: %w", i.Ref, err),
				"see that the engine runs and has disk space: meshsim doctor")
		}
	}
	return nil
}

func (b *Bundle) loadImage(ctx context.Context, e Engine, r command.Runner, i Image) error {
	img, err := b.open(i)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(i.Ref)
	if err != nil {
		return err
	}
	read, write := io.Pipe()
	defer read.Close()
	go func() { write.CloseWithError(tarball.Write(tag, img, write)) }()
	load := e.Docker("load", "--quiet")
	load.Stdin = read
	_, err = r.Run(ctx, load)
	return err
}

// open reads an image of the bundle's layout.
func (b *Bundle) open(i Image) (v1.Image, error) {
	h, err := v1.NewHash(i.Digest)
	if err != nil {
		return nil, err
	}
	p, err := layout.FromPath(b.Layout())
	if err != nil {
		return nil, fmt.Errorf("open the image layout: %w", err)
	}
	return p.Image(h)
}

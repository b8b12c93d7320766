package bundle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"meshsim.dev/meshsim/clusters/progress"
)

// pingTimeout bounds how long a registry may take to say that it is one.
const pingTimeout = 5 * time.Second

// Make makes the bundle from registries where all that the lock names answer, and
// builds it where one does not, or where taking it from them fails.
func Make(ctx context.Context, o BuildOptions) (*Bundle, error) {
	lock, err := Locked()
	if err != nil {
		return nil, err
	}
	return makeBundle(ctx, lock, o)
}

func makeBundle(ctx context.Context, lock *Lock, o BuildOptions) (*Bundle, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = progress.Discard()
	}
	task := o.Progress.Start("ask registries")
	why := answering(ctx, lock, o.Transport)
	if why != nil {
		task.Done("not all answer: the bundle is built")
	} else {
		task.Done("all answer: the bundle is pulled")
		b, err := pull(ctx, lock, PullOptions{
			Cache: o.Cache, Source: o.Source, Runner: o.Runner, Log: o.Log, Progress: o.Progress,
			Only: o.Only, Overrides: o.Overrides, Transport: o.Transport,
		})
		if err == nil || ctx.Err() != nil {
			return b, err
		}
		why = err
	}
	o.Log.Info("the bundle is built, not pulled", "because", why)
	b, err := build(ctx, lock, o)
	if err != nil && ctx.Err() == nil {
		return nil, errors.Join(err, fmt.Errorf("nor could it be pulled: %w", why))
	}
	return b, err
}

// answering asks every registry of the lock's images, all at a time, whether it
// is one, and returns why the first that fails is not.
func answering(ctx context.Context, lock *Lock, via http.RoundTripper) error {
	if via == nil {
		via = http.DefaultTransport
	}
	asked := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	for _, image := range lock.Images {
		if image.Pull == "" {
			continue
		}
		ref, err := name.ParseReference(image.Pull)
		if err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
		registry := ref.Context().Registry
		if asked[registry.Name()] {
			continue
		}
		asked[registry.Name()] = true
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, pingTimeout)
			defer cancel()
			if _, err := transport.Ping(ctx, registry, via); err != nil {
				return fmt.Errorf("registry %s does not answer: %w", registry.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

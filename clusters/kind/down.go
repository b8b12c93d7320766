package kind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
)

const (
	removeTries = 20
	// settle is how long a docker command that outlived a killed meshsim may
	// take to come up with one more container.
	settle = time.Second
)

type remover struct {
	DownOptions
	pause func(time.Duration)
}

func newRemover(o DownOptions) *remover {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = progress.Discard()
	}
	return &remover{DownOptions: o, pause: time.Sleep}
}

// down is Down without the lock.
func (r *remover) down(ctx context.Context) (err error) {
	record := recordPath(r.Cache, r.Name)
	_, statErr := os.Stat(record)
	whole := statErr == nil
	if r.Engine == nil {
		return r.removeFolder()
	}
	containers, err := r.containers(ctx)
	if err != nil {
		return r.fault(err)
	}
	if len(containers) > 0 {
		task := r.Progress.Start("remove cluster " + r.Name)
		defer func() {
			if err != nil {
				task.Fail(err)
				return
			}
			task.Done("")
		}()
	}
	// Without its record the cluster is half made, or half removed, from here on.
	if err := os.Remove(record); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r.fault(err)
	}
	if err := r.wake(ctx); err != nil {
		return r.fault(err)
	}
	if err := r.removeContainers(ctx, containers); err != nil {
		return r.fault(err)
	}
	if _, err := os.Stat(filepath.Dir(record)); err == nil && !whole {
		r.pause(settle)
		if err := r.removeNow(ctx); err != nil {
			return r.fault(err)
		}
	}
	if err := r.removeVolumes(ctx); err != nil {
		return r.fault(err)
	}
	if err := r.removeNetwork(ctx); err != nil {
		return r.fault(err)
	}
	return r.removeFolder()
}

func (r *remover) fault(err error) error {
	return fault.NewEnvironment(fmt.Errorf("remove cluster %s: %w", r.Name, err), "see that the container engine answers (`meshsim engine status`), then run `meshsim down` again")
}

func (r *remover) removeFolder() error {
	if err := os.RemoveAll(r.Cache.Cluster(r.Name)); err != nil {
		return r.fault(err)
	}
	return nil
}

// list runs a docker command that prints one name a line.
func (r *remover) list(ctx context.Context, args ...string) ([]string, error) {
	out, err := r.Runner.Run(ctx, r.Engine.Docker(args...))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(out.Stdout)), nil
}

// containers lists the nodes and what stands beside them, by their ids.
func (r *remover) containers(ctx context.Context) ([]string, error) {
	nodes, err := r.list(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label="+nodeLabel+"="+r.Name)
	if err != nil {
		return nil, err
	}
	others, err := r.list(ctx, "ps", "--all", "--quiet", "--no-trunc", "--filter", "label="+Label+"="+r.Name)
	if err != nil {
		return nil, err
	}
	return append(nodes, others...), nil
}

// wake unpauses nodes: docker takes most of a minute to remove a frozen one.
func (r *remover) wake(ctx context.Context) error {
	states, err := nodeStates(ctx, r.Runner, r.Engine, r.Name)
	if err != nil {
		return err
	}
	for name, state := range states {
		if state != "paused" {
			continue
		}
		if _, err := r.Runner.Run(ctx, r.Engine.Docker("unpause", name)); err != nil {
			r.Log.Debug("wake a node", "err", err)
		}
	}
	return nil
}

// removeContainers removes them with their anonymous volumes, trying again
// while another process is at the same work.
func (r *remover) removeContainers(ctx context.Context, ids []string) error {
	var err error
	for range removeTries {
		if len(ids) == 0 {
			return nil
		}
		stop := engine.KeepThawed(engine.CgroupRoot, ids...)
		_, err = r.Runner.Run(ctx, r.Engine.Docker(slices.Concat([]string{"rm", "--force", "--volumes"}, ids)...))
		stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			r.Log.Debug("remove containers", "err", err)
			r.pause(deletePoll)
		}
		var lerr error
		if ids, lerr = r.containers(ctx); lerr != nil {
			return lerr
		}
	}
	if err == nil {
		err = fmt.Errorf("containers %s are still there", strings.Join(ids, " "))
	}
	return err
}

// removeNow removes the containers that there are at this moment.
func (r *remover) removeNow(ctx context.Context) error {
	ids, err := r.containers(ctx)
	if err != nil {
		return err
	}
	return r.removeContainers(ctx, ids)
}

func (r *remover) removeVolumes(ctx context.Context) error {
	volumes, err := r.list(ctx, "volume", "ls", "--quiet", "--filter", "label="+Label+"="+r.Name)
	if err != nil || len(volumes) == 0 {
		return err
	}
	_, err = r.Runner.Run(ctx, r.Engine.Docker(slices.Concat([]string{"volume", "rm", "--force"}, volumes)...))
	return err
}

// removeNetwork removes kind's network when no container is on it, running or not.
func (r *remover) removeNetwork(ctx context.Context) error {
	ids, err := r.list(ctx, "network", "ls", "--quiet", "--filter", "name=^"+network+"$")
	if err != nil || len(ids) == 0 {
		return err
	}
	users, err := r.list(ctx, "ps", "--all", "--quiet", "--filter", "network="+network)
	if err != nil || len(users) > 0 {
		return err
	}
	if _, err := r.Runner.Run(ctx, r.Engine.Docker("network", "rm", network)); err != nil {
		// Another cluster may have come onto it this moment.
		r.Log.Debug("the network kind stays", "err", err)
	}
	return nil
}

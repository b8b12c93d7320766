package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kindcluster "sigs.k8s.io/kind/pkg/cluster"
	kindexec "sigs.k8s.io/kind/pkg/exec"
	kindlog "sigs.k8s.io/kind/pkg/log"

	"meshsim.dev/meshsim/clusters/engine"
)

// creator is the edge to the kind library.
type creator interface {
	// create raises the nodes and Kubernetes on them, and writes the kubeconfig.
	create(ctx context.Context, cfg *v1alpha4.Cluster, kubeconfig string) error
	// internalKubeconfig is the one that works on the network of the nodes.
	internalKubeconfig(name string) (string, error)
}

// library is the real edge.
type library struct {
	engine *engine.Engine
	log    kindlog.Logger
	remove func(context.Context) error // the nodes that there are
}

var _ creator = library{}

// create runs kind's Create, which knows no context: when ctx ends, the nodes
// are removed under its hands until it gives up. What comes up later than that
// is left to the caller to remove.
func (l library) create(ctx context.Context, cfg *v1alpha4.Cluster, kubeconfig string) error {
	restore, err := aimKind(l.engine)
	if err != nil {
		return err
	}
	defer restore()
	done := make(chan error, 1)
	go func() {
		done <- l.provider().Create(cfg.Name,
			kindcluster.CreateWithV1Alpha4Config(cfg),
			kindcluster.CreateWithKubeconfigPath(kubeconfig),
			kindcluster.CreateWithRetain(true), // the caller removes what is left, thawing it where needed
			kindcluster.CreateWithDisplayUsage(false),
			kindcluster.CreateWithDisplaySalutation(false))
	}()
	select {
	case err := <-done:
		return explain(err)
	case <-ctx.Done():
	}
	clean := context.WithoutCancel(ctx)
	for {
		if err := l.remove(clean); err != nil {
			l.log.V(0).Infof("remove the nodes of an interrupted cluster: %v", err)
		}
		select {
		case <-done:
			return context.Cause(ctx)
		case <-time.After(deletePoll):
		}
	}
}

func (l library) internalKubeconfig(name string) (string, error) {
	restore, err := aimKind(l.engine)
	if err != nil {
		return "", err
	}
	defer restore()
	return l.provider().KubeConfig(name, true)
}

func (l library) provider() *kindcluster.Provider {
	return kindcluster.NewProvider(kindcluster.ProviderWithLogger(l.log), kindcluster.ProviderWithDocker())
}

// aimKind sets this process's environment so that kind's docker commands reach
// the engine: the library knows no other way. It is the only place in the
// project that changes the environment.
func aimKind(e *engine.Engine) (restore func(), err error) {
	type old struct {
		name, value string
		set         bool
	}
	var before []old
	change := func(name, value string, set bool) error {
		v, had := os.LookupEnv(name)
		before = append(before, old{name, v, had})
		if !set {
			return os.Unsetenv(name)
		}
		return os.Setenv(name, value)
	}
	restore = func() {
		for _, o := range before {
			if o.set {
				_ = os.Setenv(o.name, o.value)
			} else {
				_ = os.Unsetenv(o.name)
			}
		}
	}
	// The nodes must be where the containers beside them are.
	errs := []error{change("KIND_EXPERIMENTAL_DOCKER_NETWORK", "", false)}
	for _, pair := range e.Env() {
		name, value, _ := strings.Cut(pair, "=")
		errs = append(errs, change(name, value, true))
	}
	if err := errors.Join(errs...); err != nil {
		restore()
		return nil, fmt.Errorf("aim kind at the container engine: %w", err)
	}
	return restore, nil
}

// explain adds to kind's error what the program that failed said last.
func explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if run := kindexec.RunErrorForError(err); run != nil {
		lines := strings.Split(strings.TrimSpace(string(run.Output)), "\n")
		text += "\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
	}
	return errors.New(text)
}

package stack

import (
	"context"

	"meshsim.dev/meshsim/clusters/bundle"
)

// AlertUnauthorised is the alert that Prometheus raises when a proxy refuses a
// call, by namespace and deployment.
const AlertUnauthorised = "UnauthorisedCalls"

// monitoring is a Prometheus that scrapes the mesh's proxies.
type monitoring struct{}

func (monitoring) Name() string { return "monitoring" }

func (m monitoring) Install(ctx context.Context, env *Env) error {
	values, err := monitoringValues(env)
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, env, NamespaceMonitoring); err != nil {
		return err
	}
	c, err := ownChart("monitoring")
	if err != nil {
		return err
	}
	return env.helm().Put(ctx, env, release{
		Name: "monitoring", Namespace: NamespaceMonitoring, Chart: c, Values: withOverrides(env, m.Name(), values),
	})
}

func monitoringValues(env *Env) (map[string]any, error) {
	prometheus, err := env.Images.Image("prometheus")
	if err != nil {
		return nil, err
	}
	image, err := imageValues(env, "prometheus")
	if err != nil {
		return nil, err
	}
	values := map[string]any{"image": image, "resources": resources(env.Fit, 200, 400, 1024)}
	if prometheus.Origin != bundle.OriginBuilt {
		return values, nil
	}
	// A built image holds Debian's Prometheus, which has no Kubernetes discovery.
	sidecar, err := imageValues(env, "podtargets")
	if err != nil {
		return nil, err
	}
	sidecar["resources"] = resources(env.Fit, 10, 20, 64)
	values["sidecar"] = sidecar
	return values, nil
}

func (monitoring) Ready(ctx context.Context, env *Env) error {
	return env.Kube.WaitRollout(ctx, "deployment", NamespaceMonitoring, "prometheus")
}

func (monitoring) Remove(ctx context.Context, env *Env) error {
	return env.helm().Drop(ctx, env, "monitoring", NamespaceMonitoring)
}

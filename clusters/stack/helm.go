package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	helmrelease "helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"meshsim.dev/meshsim/clusters/fault"
)

// release is a chart with its values, under a name in a namespace.
type release struct {
	Name      string
	Namespace string
	Chart     *chart.Chart
	Values    map[string]any
}

// releaser puts releases on a cluster and takes them away.
type releaser interface {
	Put(ctx context.Context, env *Env, r release) error
	Drop(ctx context.Context, env *Env, name, namespace string) error
}

func (e *Env) helm() releaser {
	if e.releases == nil {
		return helm{}
	}
	return e.releases
}

// helm is the releaser that speaks to a cluster through Helm's SDK. It does not
// wait for pods: each component's Ready knows better what to wait for.
type helm struct{}

const (
	revisionsKept  = 2
	cleanupWithin  = time.Minute
	releaseStorage = "secret"
)

// Put installs a release, or upgrades the one there is. What a broken-off
// install left behind is removed first; what this one leaves when it fails, too.
func (helm) Put(ctx context.Context, env *Env, r release) error {
	if err := checkValues(r); err != nil {
		return err
	}
	cfg, err := configuration(ctx, env, r.Namespace)
	if err != nil {
		return err
	}
	last, err := cfg.Releases.Last(r.Name)
	switch {
	case errors.Is(err, driver.ErrReleaseNotFound):
		return install(ctx, env, cfg, r)
	case err != nil:
		return fmt.Errorf("read release %s: %w", r.Name, err)
	case upgradable(cfg, last):
		return upgrade(ctx, cfg, r)
	}
	env.logger().Info("remove what a broken-off install left", "release", r.Name, "status", last.Info.Status.String())
	if err := uninstall(cfg, r.Name); err != nil {
		return err
	}
	return install(ctx, env, cfg, r)
}

// upgradable says whether a release can be upgraded as it is: it runs, or an
// upgrade of it failed and what ran before still does.
func upgradable(cfg *action.Configuration, last *helmrelease.Release) bool {
	if last.Info.Status == helmrelease.StatusDeployed {
		return true
	}
	_, err := cfg.Releases.Deployed(last.Name)
	return err == nil && last.Info.Status == helmrelease.StatusFailed
}

// checkValues holds a release's values against its chart's schema. What is
// wrong there was written by a person, not by the cluster.
func checkValues(r release) error {
	all, err := chartutil.CoalesceValues(r.Chart, r.Values)
	if err == nil {
		err = chartutil.ValidateAgainstSchema(r.Chart, all)
	}
	if err != nil {
		return fault.NewInvalid(fmt.Errorf("values of release %s: %w", r.Name, err), "mend the values that are given for it")
	}
	return nil
}

func install(ctx context.Context, env *Env, cfg *action.Configuration, r release) error {
	do := action.NewInstall(cfg)
	do.ReleaseName, do.Namespace = r.Name, r.Namespace
	do.DisableOpenAPIValidation = true // the schema of an old server is not worth its download
	_, err := do.Run(r.Chart, r.Values)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("install release %s: %w", r.Name, err)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupWithin)
	defer cancel()
	return errors.Join(err, helm{}.Drop(cleanup, env, r.Name, r.Namespace))
}

func upgrade(ctx context.Context, cfg *action.Configuration, r release) error {
	do := action.NewUpgrade(cfg)
	do.Namespace = r.Namespace
	do.ResetValues = true
	do.MaxHistory = revisionsKept
	do.DisableOpenAPIValidation = true
	if _, err := do.RunWithContext(ctx, r.Name, r.Chart, r.Values); err != nil {
		return fmt.Errorf("upgrade release %s: %w", r.Name, err)
	}
	return nil
}

// Drop uninstalls a release; none is no error.
func (helm) Drop(ctx context.Context, env *Env, name, namespace string) error {
	cfg, err := configuration(ctx, env, namespace)
	if err != nil {
		return err
	}
	return uninstall(cfg, name)
}

func uninstall(cfg *action.Configuration, name string) error {
	do := action.NewUninstall(cfg)
	do.IgnoreNotFound = true
	if _, err := do.Run(name); err != nil {
		return fmt.Errorf("uninstall release %s: %w", name, err)
	}
	return nil
}

// configuration is Helm's, bound to ctx: Helm's own calls take no context, so
// the transport below them ends with it.
func configuration(ctx context.Context, env *Env, namespace string) (*action.Configuration, error) {
	env.Kube.Mapper.Reset() // CRDs come and go between releases; this also drops cached discovery
	cfg := new(action.Configuration)
	log := env.logger()
	err := cfg.Init(&getter{ctx: ctx, env: env, namespace: namespace}, namespace, releaseStorage,
		func(format string, args ...any) { log.Debug("helm: " + fmt.Sprintf(format, args...)) })
	if err != nil {
		return nil, fmt.Errorf("prepare Helm: %w", err)
	}
	return cfg, nil
}

// getter gives Helm the cluster. It keeps discovery in memory: Helm's own way
// would write it below the home folder, where another cluster's may lie.
type getter struct {
	ctx       context.Context
	env       *Env
	namespace string
}

func (g *getter) ToRESTConfig() (*rest.Config, error) {
	cfg := rest.CopyConfig(g.env.Kube.Config)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return boundTransport{ctx: g.ctx, next: next} })
	return cfg, nil
}

func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.env.Kube.Discovery, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) { return g.env.Kube.Mapper, nil }

func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: g.namespace}}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: g.env.Kubeconfig}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// boundTransport ends every request with ctx.
type boundTransport struct {
	ctx  context.Context
	next http.RoundTripper
}

func (t boundTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	return t.next.RoundTrip(req.WithContext(t.ctx))
}

// chartFromFS loads the chart whose Chart.yaml lies in dir of an embedded tree.
func chartFromFS(tree fs.FS, dir string) (*chart.Chart, error) {
	sub, err := fs.Sub(tree, dir)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", dir, err)
	}
	var files []*loader.BufferedFile
	err = fs.WalkDir(sub, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sub, path)
		files = append(files, &loader.BufferedFile{Name: path, Data: data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read chart %s: %w", dir, err)
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", dir, err)
	}
	return c, nil
}

// chartFromBundle loads a chart folder of the bundle.
func chartFromBundle(env *Env, name string) (*chart.Chart, error) {
	dir, err := env.Images.Chart(name)
	if err != nil {
		return nil, err
	}
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", name, err)
	}
	return c, nil
}

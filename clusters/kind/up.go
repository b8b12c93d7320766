package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/topology"
)

// cleanTimeout bounds the clearing up after a failure, when the caller's
// context may have ended already.
const cleanTimeout = 2 * time.Minute

// images is what raising needs of a bundle.
type images interface {
	Image(name string) (bundle.Image, error)
	MirrorHosts(registryURL string) (hosts map[string]string, err error)
	LoadIntoEngine(ctx context.Context, e bundle.Engine, runner command.Runner, names ...string) error
}

var _ images = (*bundle.Bundle)(nil)

// raiser raises one cluster; tests replace its edges.
type raiser struct {
	UpOptions
	images     images
	bundleDir  string
	bundleHash string
	machine    machine
	beside     beside
	remover    *remover
	newCreator func(log io.Writer, step func(string)) creator
	connect    func(kubeconfig string) (kubernetes.Interface, error)
	now        func() time.Time
}

func newRaiser(o UpOptions) *raiser {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = progress.Discard()
	}
	remover := newRemover(DownOptions{Name: o.Name, Engine: o.Engine, Cache: o.Cache, Runner: o.Runner, Log: o.Log, Progress: o.Progress})
	r := &raiser{UpOptions: o, images: o.Bundle, machine: newMachine(), now: time.Now,
		beside:  beside{cluster: o.Name, engine: o.Engine, runner: o.Runner},
		remover: remover,
		newCreator: func(log io.Writer, step func(string)) creator {
			return library{engine: o.Engine, log: &kindLogger{file: log, step: step, now: time.Now}, remove: remover.removeNow}
		},
		connect: func(kubeconfig string) (kubernetes.Interface, error) {
			client, err := kube.New(kubeconfig)
			if err != nil {
				return nil, err
			}
			return client.Clientset, nil
		}}
	if o.Bundle != nil {
		r.bundleDir, r.bundleHash = o.Bundle.Dir, o.Bundle.Hash
	}
	return r
}

// wanted are the bundle's images that raising takes.
type wanted struct{ node, registry, aws bundle.Image }

func (r *raiser) wanted() (w wanted, err error) {
	for _, want := range []struct {
		name string
		into *bundle.Image
	}{{"node", &w.node}, {"registry", &w.registry}, {"fakeaws", &w.aws}} {
		if *want.into, err = r.images.Image(want.name); err != nil {
			return w, err
		}
	}
	if w.node.Version != r.Topology.KubernetesVersion {
		return w, fault.NewEnvironment(fmt.Errorf("topology %s wants Kubernetes %s, and the bundle's node image has %s", r.Topology.Name, r.Topology.KubernetesVersion, w.node.Version),
			"choose a topology of that version, or a bundle whose lock names a node image of "+r.Topology.KubernetesVersion)
	}
	return w, nil
}

// up is Up without the lock.
func (r *raiser) up(ctx context.Context) (*Cluster, error) {
	if _, err := minorVersion(r.Topology.KubernetesVersion); err != nil {
		return nil, err
	}
	w, err := r.wanted()
	if err != nil {
		return nil, err
	}
	c, why, err := r.reuse(ctx, w)
	if err != nil || c != nil {
		return c, err
	}
	r.Log.Debug("no standing cluster to reuse", "cluster", r.Name, "why", why)
	if err := r.remover.down(ctx); err != nil {
		return nil, err
	}
	c, err = r.raise(ctx, w)
	if err == nil {
		return c, nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if derr := r.remover.down(clean); derr != nil {
		err = errors.Join(err, derr)
	}
	return nil, err
}

// raise makes the cluster from nothing. What it made is removed by up when it fails.
func (r *raiser) raise(ctx context.Context, w wanted) (_ *Cluster, err error) {
	began := r.now()
	c, cfg, err := r.prepare(ctx, w)
	if err != nil {
		return nil, err
	}
	task := r.Progress.Start(fmt.Sprintf("raise cluster %s: %d nodes", r.Name, len(c.Nodes)))
	defer func() {
		if err != nil {
			task.Fail(err)
			return
		}
		task.Done("")
	}()
	task.Detail("load images")
	if err := r.images.LoadIntoEngine(ctx, r.Engine, r.Runner, "node", "registry", "fakeaws"); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logPath(r.Cache, r.Name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open kind's log: %w", err)
	}
	defer log.Close()
	creator := r.newCreator(log, func(step string) { task.Detail("%s", step) })
	if err := r.makeContainers(ctx, creator, c, cfg, w); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) // the rest is its echo
		}
		return nil, err
	}
	task.Detail("wait for the nodes")
	if err := r.furnish(ctx, c, creator); err != nil {
		return nil, err
	}
	c.RaisedAt, c.RaisedIn = began, r.now().Sub(began)
	return c, writeRecord(recordPath(r.Cache, r.Name), c)
}

// prepare looks whether raising can go well, and writes what the containers mount.
func (r *raiser) prepare(ctx context.Context, w wanted) (*Cluster, *v1alpha4.Cluster, error) {
	host, err := askHost(ctx, r.Runner, r.Engine)
	if err != nil {
		return nil, nil, err
	}
	if err := r.machine.preflight(host, r.Topology, r.HTTPPort, r.GRPCPort); err != nil {
		return nil, nil, err
	}
	certs := certsDir(r.Cache, r.Name)
	if err := makeFolders(r.Cache.Cluster(r.Name), certs, awsDir(r.Cache, r.Name)); err != nil {
		return nil, nil, err
	}
	if err := r.mirrors(); err != nil {
		return nil, nil, err
	}
	cfg, nodes, notes, err := render(spec{name: r.Name, topology: r.Topology, host: host, nodeImage: w.node.Ref, certsDir: certs,
		patchContainerd: w.node.Origin != bundle.OriginBuilt})
	if err != nil {
		return nil, nil, err
	}
	return &Cluster{Name: r.Name, Topology: r.Topology, Fit: topology.FitTo(r.Topology, host.CPUs, host.MemoryBytes),
		Kubeconfig: kubeconfigPath(r.Cache, r.Name), KMSEndpoint: fmt.Sprintf("http://%s:%d", awsName(r.Name), kmsPort),
		Nodes: nodes, Notes: notes, NodeImage: w.node, BundleHash: r.bundleHash}, cfg, nil
}

// makeContainers raises the nodes and, at the same time, what stands beside them.
func (r *raiser) makeContainers(ctx context.Context, creator creator, c *Cluster, cfg *v1alpha4.Cluster, w wanted) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := creator.create(gctx, cfg, c.Kubeconfig); err != nil {
			return fault.NewEnvironment(fmt.Errorf("raise cluster %s: %w", r.Name, err), "kind's whole log is in "+logPath(r.Cache, r.Name))
		}
		return nil
	})
	g.Go(func() error { return r.startBeside(gctx, w, true, true, r.HTTPPort, r.GRPCPort) })
	return g.Wait()
}

// mirrors tells the nodes to pull from the bundle's registry.
func (r *raiser) mirrors() error {
	hosts, err := r.images.MirrorHosts(registryURL(r.Name))
	if err != nil {
		return fmt.Errorf("say where nodes pull from: %w", err)
	}
	return writeMirrors(certsDir(r.Cache, r.Name), hosts)
}

// startBeside starts the containers beside the nodes as soon as there is a
// network for them. A fresh AWS stand-in waits for its kubeconfig by itself.
func (r *raiser) startBeside(ctx context.Context, w wanted, registry, aws bool, httpPort, grpcPort int) error {
	if err := r.beside.awaitNetwork(ctx); err != nil {
		return err
	}
	if registry {
		if err := r.beside.run(ctx, r.beside.registry(w.registry, r.bundleDir, r.bundleHash)); err != nil {
			return err
		}
	}
	if !aws {
		return nil
	}
	if err := r.beside.makeVolume(ctx); err != nil {
		return err
	}
	return r.beside.run(ctx, r.beside.aws(w.aws, awsDir(r.Cache, r.Name), r.bundleHash, httpPort, grpcPort))
}

// furnish does what is to be done once Kubernetes answers, and waits until all
// of the cluster is ready.
func (r *raiser) furnish(ctx context.Context, c *Cluster, creator creator) error {
	if err := os.Chmod(c.Kubeconfig, 0o600); err != nil {
		return fmt.Errorf("keep the kubeconfig to its owner: %w", err)
	}
	internal, err := creator.internalKubeconfig(c.Name)
	if err != nil {
		return fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	if err := giveKubeconfig(awsDir(r.Cache, r.Name), internal); err != nil {
		return err
	}
	client, err := r.connect(c.Kubeconfig)
	if err != nil {
		return err
	}
	if err := setStorageClasses(ctx, client, r.Topology.StorageClasses); err != nil {
		return err
	}
	ready, err := awaitNodes(ctx, client, nodeNames(c.Nodes), readyTimeout)
	if err != nil {
		return err
	}
	if err := keepServicesInside(ctx, r.Runner, r.Engine, c.Nodes); err != nil {
		return err
	}
	note, err := addDelay(ctx, r.Runner, r.Engine, nodeNets(c.Nodes, ready), r.Topology.CrossZoneDelay)
	if err != nil {
		return err
	}
	if note != "" {
		c.Notes = append(c.Notes, note)
	}
	return r.settleBeside(ctx, c)
}

// settleBeside looks that the containers beside the nodes run, and where.
func (r *raiser) settleBeside(ctx context.Context, c *Cluster) (err error) {
	for _, name := range []string{registryName(c.Name), awsName(c.Name)} {
		if err := r.beside.check(ctx, name); err != nil {
			return err
		}
	}
	c.HTTP, c.GRPC, err = r.beside.addresses(ctx)
	return err
}

func nodeNames(nodes []Node) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	return names
}

// nodeNets joins our nodes with what Kubernetes knows of them.
func nodeNets(nodes []Node, known []corev1.Node) []nodeNet {
	byName := map[string]corev1.Node{}
	for _, k := range known {
		byName[k.Name] = k
	}
	nets := make([]nodeNet, len(nodes))
	for i, n := range nodes {
		nets[i] = nodeNet{Node: n, address: nodeAddress(byName[n.Name]), podCIDR: byName[n.Name].Spec.PodCIDR}
	}
	return nets
}

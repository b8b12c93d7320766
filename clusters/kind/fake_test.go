package kind

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
)

// docker is an engine that exists only in a test: it knows containers, volumes
// and networks by what it was told to do.
type docker struct {
	mu         sync.Mutex
	containers map[string]dockerContainer
	volumes    map[string]bool
	networks   map[string]bool
	fail       func(argv []string) error // asked before anything is done
	lines      []string
	stdin      map[string]string // node to what tc was given
}

type dockerContainer struct {
	labels map[string]string
	state  string
	ports  []string // as docker port prints them
}

func newDocker() *docker {
	return &docker{containers: map[string]dockerContainer{}, volumes: map[string]bool{}, networks: map[string]bool{}, stdin: map[string]string{}}
}

var _ command.Runner = (*docker)(nil)

func (d *docker) Run(ctx context.Context, c command.Cmd) (command.Output, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return command.Output{}, &command.Error{Argv: c.Argv, ExitCode: -1, Err: context.Cause(ctx)}
	}
	args := c.Argv[1:]
	d.lines = append(d.lines, strings.Join(args, " "))
	if d.fail != nil {
		if err := d.fail(args); err != nil {
			return command.Output{}, err
		}
	}
	text, err := d.do(args, c.Stdin)
	return command.Output{Stdout: []byte(text)}, err
}

func (d *docker) do(args []string, stdin io.Reader) (string, error) {
	last := args[len(args)-1]
	switch args[0] + " " + args[min(1, len(args)-1)] {
	case "info --format":
		return `{"NCPU":2,"MemTotal":25276502016,"DockerRootDir":"/data","CgroupVersion":"1"}`, nil
	case "run --detach":
		return "", d.run(args)
	case "ps --all":
		return d.ps(args), nil
	case "rm --force":
		for _, name := range args[3:] {
			delete(d.containers, name)
		}
		return "", nil
	case "volume create":
		d.volumes[last] = true
		return last, nil
	case "volume ls":
		return joined(d.volumes), nil
	case "volume rm":
		delete(d.volumes, last)
		return "", nil
	case "network ls":
		return joined(d.networks), nil
	case "network inspect":
		if !d.networks[last] {
			return "", errors.New("no such network")
		}
		return last, nil
	case "network rm":
		delete(d.networks, last)
		return "", nil
	case "inspect --format":
		return d.containers[last].state + "\n", nil
	case "exec --interactive":
		data, err := io.ReadAll(stdin)
		d.stdin[args[2]] = string(data)
		return "", err
	}
	switch args[0] {
	case "port":
		return strings.Join(d.containers[last].ports, "\n") + "\n", nil
	case "unpause":
		c := d.containers[last]
		c.state = "running"
		d.containers[last] = c
	}
	return "", nil
}

func (d *docker) run(args []string) error {
	c := dockerContainer{labels: map[string]string{}, state: "running"}
	name := ""
	for i, a := range args {
		switch a {
		case "--name":
			name = args[i+1]
		case "--label":
			key, value, _ := strings.Cut(args[i+1], "=")
			c.labels[key] = value
		case "--publish":
			parts := strings.Split(args[i+1], ":")
			port := parts[1]
			if port == "" {
				port = "3" + parts[2]
			}
			c.ports = append(c.ports, parts[2]+"/tcp -> 127.0.0.1:"+port)
		}
	}
	if _, ok := d.containers[name]; ok {
		return errors.New("the name is taken: " + name)
	}
	d.containers[name] = c
	return nil
}

// ps answers the formats that the package asks for.
func (d *docker) ps(args []string) string {
	filter, format := "", "{{.ID}}"
	for i, a := range args {
		switch a {
		case "--filter":
			filter = args[i+1]
		case "--format":
			format = args[i+1]
		}
	}
	var lines []string
	for name, c := range d.containers {
		key, value, _ := strings.Cut(strings.TrimPrefix(filter, "label="), "=")
		if !strings.HasPrefix(filter, "network=") && c.labels[key] != value {
			continue
		}
		line := strings.NewReplacer("{{.ID}}", name, "{{.Names}}", name, "{{.State}}", c.state, "{{.Ports}}", strings.Join(c.ports, ", ")).Replace(format)
		for _, label := range []string{bundleLabel, imageLabel, roleLabel} {
			line = strings.ReplaceAll(line, `{{.Label "`+label+`"}}`, c.labels[label])
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func joined(set map[string]bool) string {
	var names []string
	for n := range set {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, "\n")
}

func (d *docker) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for n := range d.containers {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (d *docker) setState(name, state string) {
	c := d.containers[name]
	c.state = state
	d.containers[name] = c
}

// fakeBundle has every image.
type fakeBundle struct {
	version, nodeDigest string
	loads               *[]string
}

func (b fakeBundle) Image(name string) (bundle.Image, error) {
	if name == "node" {
		return bundle.Image{Name: name, Ref: "meshsim.local/node:v1", Digest: b.nodeDigest, Version: b.version, Origin: bundle.OriginBuilt}, nil
	}
	return bundle.Image{Name: name, Ref: "meshsim.local/" + name + ":1", Digest: "sha256:" + name}, nil
}

func (b fakeBundle) MirrorHosts(url string) (map[string]string, error) {
	return map[string]string{"docker.io": url}, nil
}

func (b fakeBundle) LoadIntoEngine(_ context.Context, _ bundle.Engine, _ command.Runner, names ...string) error {
	*b.loads = append(*b.loads, strings.Join(names, ","))
	return nil
}

// fakeKind makes node containers and a kubeconfig, or fails.
type fakeKind struct {
	docker *docker
	err    error
	hang   bool // until ctx ends
	calls  int
}

func (k *fakeKind) create(ctx context.Context, cfg *v1alpha4.Cluster, kubeconfig string) error {
	k.docker.mu.Lock()
	k.calls++
	k.docker.networks["kind"] = true
	for i, n := range cfg.Nodes {
		name := cfg.Name + "-control-plane"
		if n.Role == v1alpha4.WorkerRole {
			name = workerName(cfg.Name, i-1)
		}
		k.docker.containers[name] = dockerContainer{labels: map[string]string{nodeLabel: cfg.Name}, state: "running"}
	}
	k.docker.mu.Unlock()
	if k.hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if k.err != nil {
		return k.err
	}
	return os.WriteFile(kubeconfig, []byte("kubeconfig"), 0o644)
}

func (k *fakeKind) internalKubeconfig(name string) (string, error) { return "internal of " + name, nil }

// bench is a raiser whose every edge is a test's.
type bench struct {
	*raiser
	docker *docker
	kind   *fakeKind
	loads  []string
	client *fake.Clientset
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{docker: newDocker()}
	b.kind = &fakeKind{docker: b.docker}
	top := shipped(t, "ci")
	b.raiser = newRaiser(UpOptions{Name: "meshsim", Topology: top, Engine: &engine.Engine{}, Cache: cache.Dir(t.TempDir()), Runner: b.docker})
	b.images, b.bundleDir, b.bundleHash = fakeBundle{top.KubernetesVersion, "sha256:node", &b.loads}, "/bundles/1", "hash1"
	b.machine = machine{
		freeDisk:   func(string) (int64, error) { return 100 * gb, nil },
		freeMemory: func() (int64, error) { return 20 * gb, nil },
		portFree:   func(int) error { return nil },
	}
	b.newCreator = func(io.Writer, func(string)) creator { return b.kind }
	b.client = fake.NewClientset(readyNodes(top.Workers()[0].Zone)...)
	b.connect = func(string) (kubernetes.Interface, error) { return b.client, nil }
	b.remover.pause = func(time.Duration) {}
	require.NoError(t, os.MkdirAll(b.Cache.Clusters(), 0o700))
	return b
}

// readyNodes are what the API server of the ci topology knows.
func readyNodes(string) []runtime.Object {
	objects := []runtime.Object{&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "standard", Annotations: map[string]string{defaultClassAnnotation: "true"}}}}
	for i, name := range []string{"meshsim-control-plane", "meshsim-worker", "meshsim-worker2", "meshsim-worker3"} {
		objects = append(objects, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.NodeSpec{PodCIDR: "10.244." + string(rune('0'+i)) + ".0/24"},
			Status: corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.213.128." + string(rune('2'+i))}},
			},
		})
	}
	return objects
}

func (b *bench) record() string { return recordPath(b.Cache, b.Name) }

func (b *bench) folder() string { return filepath.Dir(b.record()) }

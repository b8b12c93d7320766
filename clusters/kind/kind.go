// Package kind raises a cluster of a topology's shape with kind, and removes it.
//
// A cluster is kind's node containers and two containers beside them on the
// same network: NAME-registry gives the nodes the bundle's images, and NAME-aws
// stands in for AWS (KMS, load balancer). What is known of a cluster stands in
// the cache's clusters/NAME, written once all of it is up: a cluster without
// that record is half made, and is removed before anything else is done.
package kind

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/engine/filelock"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/topology"
)

// DefaultName is the name of a cluster that was given none.
const DefaultName = "meshsim"

// Label marks every container and volume beside kind's nodes; its value is the cluster's name.
const Label = "meshsim.dev/cluster"

const (
	nodeLabel   = "io.x-k8s.kind.cluster" // kind's own, on its nodes
	roleLabel   = "meshsim.dev/role"      // registry or aws
	bundleLabel = "meshsim.dev/bundle"    // hash of the bundle that is served
	imageLabel  = "meshsim.dev/image"     // digest of the container's image
	network     = "kind"
)

// Cluster is a cluster that stands. Its JSON is the record in the cache.
type Cluster struct {
	Name        string             `json:"name"`
	Topology    *topology.Topology `json:"topology"`
	Fit         topology.Fit       `json:"fit"`
	Kubeconfig  string             `json:"kubeconfig"`  // path of a file that only its owner can read
	HTTP        string             `json:"http"`        // 127.0.0.1:port of the load balancer's HTTP listener
	GRPC        string             `json:"grpc"`        // 127.0.0.1:port of its gRPC listener
	KMSEndpoint string             `json:"kmsEndpoint"` // URL of the KMS stand-in as pods resolve it
	Nodes       []Node             `json:"nodes"`       // control plane first, then the workers in kind's order
	Notes       []string           `json:"notes"`       // where the cluster differs from its topology
	NodeImage   bundle.Image       `json:"nodeImage"`
	BundleHash  string             `json:"bundleHash"`
	RaisedAt    time.Time          `json:"raisedAt"`
	RaisedIn    time.Duration      `json:"raisedIn"` // nanoseconds from the first check to the last node's readiness
	Reused      bool               `json:"-"`        // it stood already when Up was called
}

// Node is one node container.
type Node struct {
	Name      string `json:"name"`
	Zone      string `json:"zone,omitempty"` // "" for the control plane, which is AWS's own on EKS
	NodeGroup string `json:"nodeGroup,omitempty"`
}

// UpOptions says which cluster to raise. All but Log, Progress and the ports must be set.
type UpOptions struct {
	Name     string
	Topology *topology.Topology
	Engine   *engine.Engine
	Bundle   *bundle.Bundle
	Cache    cache.Dir
	Runner   command.Runner
	Log      *slog.Logger
	Progress *progress.Reporter
	HTTPPort int // on 127.0.0.1; 0 takes a free one, or the standing cluster's
	GRPCPort int // the same
}

// Check finds what is wrong with the name, the ports and the topology's version,
// which needs neither engine nor bundle. The error is a fault.Invalid.
func (o UpOptions) Check() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	for _, given := range []struct {
		flag string
		port int
	}{{"--http-port", o.HTTPPort}, {"--grpc-port", o.GRPCPort}} {
		if given.port < 0 || given.port > 65535 {
			return fault.NewInvalid(fmt.Errorf("%d is no port", given.port),
				"give "+given.flag+" a number from 1 to 65535, or 0 for a free one")
		}
	}
	if o.HTTPPort != 0 && o.HTTPPort == o.GRPCPort {
		return fault.NewInvalid(fmt.Errorf("port %d is asked for twice", o.HTTPPort), "give --http-port and --grpc-port a port each")
	}
	_, err := minorVersion(o.Topology.KubernetesVersion)
	return err
}

// DownOptions says which cluster to remove.
type DownOptions struct {
	Name     string
	Engine   *engine.Engine // nil when none runs: then only the record is removed
	Cache    cache.Dir
	Runner   command.Runner
	Log      *slog.Logger
	Progress *progress.Reporter
}

// Up raises the cluster, or returns the one that stands already when it has the
// same shape and node image; of another bundle it then takes over the images. A
// broken or half-made cluster is removed and raised again. Whenever Up returns
// an error, also for a ctx that ended, nothing of the cluster is left.
//
// kind reads where Docker is from the environment, so Up sets DOCKER_HOST in
// this process while kind works: one Up at a time in a process.
func Up(ctx context.Context, o UpOptions) (*Cluster, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := newRaiser(o)
	unlock, err := filelock.Lock(ctx, lockPath(o.Cache, o.Name), "cluster "+o.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return r.up(ctx)
}

// Down removes everything of a cluster: its containers, volumes and record, and
// the network kind when nobody else uses it. It is idempotent and needs no
// record, so it also clears up after a process that was killed.
func Down(ctx context.Context, o DownOptions) error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	unlock, err := filelock.Lock(ctx, lockPath(o.Cache, o.Name), "cluster "+o.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return newRemover(o).down(ctx)
}

// Occupy keeps the cluster for one rehearsal until release is called or the
// process dies. While another has it the error is a fault.Environment: two at
// once would take the mesh and the shop from under each other.
func Occupy(d cache.Dir, name string) (release func(), err error) {
	release, held, err := filelock.Try(rehearsalPath(d, name), "cluster "+name)
	if held {
		return nil, fault.NewEnvironment(fmt.Errorf("another rehearsal is under way on cluster %s", name),
			"wait until it has ended, or give this one a cluster of its own by --name")
	}
	return release, err
}

// Open reads the record of a standing cluster. Without one the error is a
// fault.Environment.
func Open(d cache.Dir, name string) (*Cluster, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c, err := readRecord(recordPath(d, name))
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fault.NewEnvironment(fmt.Errorf("there is no cluster %q", name), "raise one with `meshsim up`")
	}
	return c, nil
}

// namePattern keeps to what is a container's, a host's and a file's name alike;
// 30 leaves room for kind's suffixes within a host name.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// CheckName tells whether a cluster may be named so. The error is a fault.Invalid.
func CheckName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return fault.NewInvalid(fmt.Errorf("%q is no name for a cluster", name), "use up to 30 lower-case letters, digits and '-', such as "+DefaultName)
}

func lockPath(d cache.Dir, name string) string { return filepath.Join(d.Clusters(), name+".lock") }

func rehearsalPath(d cache.Dir, name string) string {
	return filepath.Join(d.Clusters(), name+".rehearsal")
}

func logPath(d cache.Dir, name string) string { return filepath.Join(d.Clusters(), name+".log") }

func registryName(cluster string) string { return cluster + "-registry" }

func awsName(cluster string) string { return cluster + "-aws" }

func awsVolume(cluster string) string { return cluster + "-aws-state" }

// PodHTTP is host:port of the load balancer's HTTP listener as pods reach it.
func (c *Cluster) PodHTTP() string {
	return net.JoinHostPort(awsName(c.Name), strconv.Itoa(awsHTTPPort))
}

// PodGRPC is host:port of its gRPC listener as pods reach it.
func (c *Cluster) PodGRPC() string {
	return net.JoinHostPort(awsName(c.Name), strconv.Itoa(awsGRPCPort))
}

package kind

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
)

// Ports inside the AWS stand-in's container.
const (
	awsHTTPPort  = 80
	awsGRPCPort  = 9090
	awsAdminPort = 8090
	kmsPort      = 4566
)

// beside runs the containers that stand beside the nodes.
type beside struct {
	cluster string
	engine  *engine.Engine
	runner  command.Runner
}

// container says what to run.
type container struct {
	name, role string
	image      bundle.Image
	bundleHash string
	flags      []string // of docker run
	args       []string // of the program
}

func (b beside) registry(image bundle.Image, dir, hash string) container {
	return container{
		name: registryName(b.cluster), role: "registry", image: image, bundleHash: hash,
		flags: []string{"--volume", dir + ":/bundle:ro"},
		args:  []string{"--listen=:" + strconv.Itoa(registryPort), "--bundle=/bundle"},
	}
}

func (b beside) aws(image bundle.Image, kubeconfigDir, hash string, httpPort, grpcPort int) container {
	return container{
		name: awsName(b.cluster), role: "aws", image: image, bundleHash: hash,
		flags: []string{
			"--env", "GOMAXPROCS=" + strconv.Itoa(max(1, runtime.NumCPU()/2)), // the rest is the shop's
			"--cap-add", "NET_ADMIN", // in its own network namespace: the routes to pods
			"--volume", kubeconfigDir + ":/etc/fakeaws:ro",
			"--volume", awsVolume(b.cluster) + ":/var/lib/fakeaws",
			"--publish", publish(httpPort, awsHTTPPort), "--publish", publish(grpcPort, awsGRPCPort), "--publish", publish(0, awsAdminPort),
		},
		args: []string{"serve", "--kms-listen=:" + strconv.Itoa(kmsPort), "--alb-http=:" + strconv.Itoa(awsHTTPPort), "--alb-grpc=:" + strconv.Itoa(awsGRPCPort),
			"--admin-listen=:" + strconv.Itoa(awsAdminPort), "--alb-pod-routes", "--kubeconfig=/etc/fakeaws/kubeconfig", "--state=/var/lib/fakeaws"},
	}
}

// publish leaves the choice of a port to docker where it is 0.
func publish(host, inside int) string {
	if host == 0 {
		return fmt.Sprintf("127.0.0.1::%d", inside)
	}
	return fmt.Sprintf("127.0.0.1:%d:%d", host, inside)
}

// run starts the container on the nodes' network.
func (b beside) run(ctx context.Context, c container) error {
	argv := []string{"run", "--detach", "--name", c.name, "--hostname", c.name, "--network", network, "--restart", "on-failure:5",
		"--label", Label + "=" + b.cluster, "--label", roleLabel + "=" + c.role,
		"--label", bundleLabel + "=" + c.bundleHash, "--label", imageLabel + "=" + c.image.Digest}
	argv = slices.Concat(argv, c.flags, []string{c.image.Ref}, c.args)
	_, err := b.runner.Run(ctx, b.engine.Docker(argv...))
	if err == nil {
		return nil
	}
	err = fmt.Errorf("start %s: %w", c.name, err)
	if strings.Contains(err.Error(), "port is already allocated") || strings.Contains(err.Error(), "address already in use") {
		return fault.NewEnvironment(err, "end what listens on that port, or choose another one")
	}
	return err
}

// makeVolume makes the AWS stand-in's memory; making it again changes nothing.
func (b beside) makeVolume(ctx context.Context) error {
	_, err := b.runner.Run(ctx, b.engine.Docker("volume", "create", "--label", Label+"="+b.cluster, awsVolume(b.cluster)))
	if err != nil {
		return fmt.Errorf("make the AWS stand-in's volume: %w", err)
	}
	return nil
}

// awaitNetwork waits until kind has made the nodes' network.
func (b beside) awaitNetwork(ctx context.Context) error {
	for {
		_, err := b.runner.Run(ctx, b.engine.Docker("network", "inspect", "--format", "{{.ID}}", network))
		if err == nil {
			return nil
		}
		if err := pause.For(ctx, networkPoll); err != nil {
			return err
		}
	}
}

// running is a container beside the nodes, as docker tells of it.
type running struct {
	state, bundleHash, image string
}

// inspect returns the containers beside the nodes by their names.
func (b beside) inspect(ctx context.Context) (map[string]running, error) {
	format := fmt.Sprintf("{{.Names}}\t{{.State}}\t{{.Label %q}}\t{{.Label %q}}", bundleLabel, imageLabel)
	out, err := b.runner.Run(ctx, b.engine.Docker("ps", "--all", "--filter", "label="+Label+"="+b.cluster, "--format", format))
	if err != nil {
		return nil, fmt.Errorf("list the containers beside the nodes: %w", err)
	}
	found := map[string]running{}
	for line := range strings.Lines(string(out.Stdout)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) == 4 {
			found[fields[0]] = running{fields[1], fields[2], fields[3]}
		}
	}
	return found, nil
}

func (b beside) remove(ctx context.Context, name string) error {
	if _, err := b.runner.Run(ctx, b.engine.Docker("rm", "--force", "--volumes", name)); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// addresses asks where the AWS stand-in's listeners are published.
func (b beside) addresses(ctx context.Context) (httpAddr, grpcAddr string, err error) {
	out, err := b.runner.Run(ctx, b.engine.Docker("port", awsName(b.cluster)))
	if err != nil {
		return "", "", fmt.Errorf("ask for the load balancer's ports: %w", err)
	}
	// Lines such as "80/tcp -> 127.0.0.1:32768".
	for line := range strings.Lines(string(out.Stdout)) {
		inside, outside, _ := strings.Cut(strings.TrimSpace(line), " -> ")
		if host, _, err := net.SplitHostPort(outside); err != nil || host != "127.0.0.1" {
			continue
		}
		switch inside {
		case strconv.Itoa(awsHTTPPort) + "/tcp":
			httpAddr = outside
		case strconv.Itoa(awsGRPCPort) + "/tcp":
			grpcAddr = outside
		}
	}
	if httpAddr == "" || grpcAddr == "" {
		return "", "", fmt.Errorf("the load balancer's ports are not published: docker port says %q", strings.TrimSpace(string(out.Stdout)))
	}
	return httpAddr, grpcAddr, nil
}

// check fails with a container's last words when it does not run.
func (b beside) check(ctx context.Context, name string) error {
	out, err := b.runner.Run(ctx, b.engine.Docker("inspect", "--format", "{{.State.Status}}", name))
	if err != nil {
		return fmt.Errorf("look at %s: %w", name, err)
	}
	state := strings.TrimSpace(string(out.Stdout))
	if state == "running" {
		return nil
	}
	logs, _ := b.runner.Run(ctx, b.engine.Docker("logs", "--tail", "5", name))
	said := strings.TrimSpace(string(logs.Stdout) + string(logs.Stderr))
	return fault.NewEnvironment(fmt.Errorf("%s does not run (%s); it said: %s", name, state, said), "")
}

// giveKubeconfig puts the cluster's kubeconfig where the AWS stand-in waits for it.
func giveKubeconfig(dir, kubeconfig string) error {
	if err := writeFile(filepath.Join(dir, "kubeconfig"), []byte(kubeconfig)); err != nil {
		return fmt.Errorf("give the AWS stand-in its kubeconfig: %w", err)
	}
	return nil
}

// portOf is the port of an address, 0 when there is none.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

func makeFolders(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, os.MkdirAll(dir, 0o700))
	}
	if err := errors.Join(errs...); err != nil {
		return fault.NewEnvironment(fmt.Errorf("make the cluster's folder: %w", err), "make the cache folder writable, or set MESHSIM_CACHE to one that is")
	}
	return nil
}

const (
	networkPoll = 300 * time.Millisecond
	deletePoll  = 500 * time.Millisecond
)

// Command nodenet is the CNI daemon of meshsim's own node images. It runs on
// every node, as a DaemonSet, and takes what it must know from the environment:
// NODE_NAME, POD_SUBNET, and CONTROL_PLANE_ENDPOINT (HOST:PORT of the API
// server, so that it need not wait for kube-proxy).
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"meshsim.dev/meshsim/clusters/nodenet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "nodenet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	node := os.Getenv("NODE_NAME")
	if node == "" {
		return fmt.Errorf("NODE_NAME is not set")
	}
	all, err := netip.ParsePrefix(os.Getenv("POD_SUBNET"))
	if err != nil {
		return fmt.Errorf("POD_SUBNET: %w", err)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
		config.Host = "https://" + endpoint
	}
	config.UserAgent = "nodenet"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reach the cluster: %w", err)
	}
	return nodenet.Run(ctx, nodenet.Options{
		Node: node, AllPods: all, ConfigDir: "/etc/cni/net.d", Kubernetes: client, Kernel: nodenet.Netlink{},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Resync: time.Minute,
	})
}

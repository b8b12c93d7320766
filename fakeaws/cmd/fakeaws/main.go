// Command fakeaws stands in for AWS KMS and an Application Load Balancer.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/fakeaws"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand(os.Stdout, os.Stderr).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fakeaws:", err)
		os.Exit(1)
	}
}

func newCommand(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{Use: "fakeaws", Short: "Stand-ins for AWS KMS and an Application Load Balancer",
		SilenceUsage: true, SilenceErrors: true}
	root.SetOut(stdout)
	root.SetErr(stderr)
	var o fakeaws.Options
	serve := &cobra.Command{Use: "serve", Short: "Serve until SIGTERM", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Access = stdout
			o.Log = slog.New(slog.NewJSONHandler(stderr, nil))
			return fakeaws.Serve(cmd.Context(), o)
		}}
	f := serve.Flags()
	f.StringVar(&o.KMSListen, "kms-listen", ":4566", "address of KMS")
	f.StringVar(&o.ALBHTTP, "alb-http", ":80", "address of the load balancer's HTTP/1.1 listener")
	f.StringVar(&o.ALBGRPC, "alb-grpc", ":9090", "address of the load balancer's gRPC listener")
	f.StringVar(&o.AdminListen, "admin-listen", ":8090", "address of /-/ready and /-/targets")
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "cluster to balance for; waited for while it does not exist; empty for KMS alone")
	f.StringVar(&o.State, "state", "/var/lib/fakeaws", "folder of the key material")
	f.StringVar(&o.Region, "region", "us-east-1", "region in ARNs")
	f.StringVar(&o.Account, "account", "123456789012", "account in ARNs")
	f.StringSliceVar(&o.Aliases, "alias", []string{"alias/vault-unseal"}, "names of the KMS key")
	f.StringVar(&o.ALB.Name, "alb-name", "shop", "name of the load balancer, for its access log")
	f.StringVar(&o.ALB.TargetType, "alb-target-type", "instance", "instance or ip: targets of an Ingress that names no type")
	f.DurationVar(&o.ALB.Propagation, "alb-propagation", time.Second, "how long a registered or deregistered target takes to be noticed")
	f.BoolVar(&o.ALB.PodRoutes, "alb-pod-routes", false, "keep routes to the nodes' pods, for targets of type ip; needs CAP_NET_ADMIN")
	f.StringVar(&o.ALB.GateListen, "alb-gates-listen", "", "address of the webhook for pods' readiness gates; empty for no gates")
	root.AddCommand(serve)
	return root
}

// Package fakeaws stands in for the parts of AWS that a rehearsal touches: KMS
// and the Application Load Balancer. It runs beside the cluster, not in it.
package fakeaws

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"meshsim.dev/meshsim/clusters/nodenet"
	"meshsim.dev/meshsim/fakeaws/alb"
	"meshsim.dev/meshsim/fakeaws/kms"
	"meshsim.dev/meshsim/fakeaws/podnet"
)

// Options configure Serve. Addresses are host:port; Kubeconfig "" means that
// there is no load balancer.
type Options struct {
	KMSListen   string
	ALBHTTP     string
	ALBGRPC     string
	AdminListen string
	Kubeconfig  string
	State       string   // folder of the key material
	Region      string   // of every ARN
	Account     string   // of every ARN
	Aliases     []string // names of the key, "alias/…"
	ALB         ALBOptions
	Access      io.Writer
	Log         *slog.Logger
}

// ALBOptions are the load balancer's own.
type ALBOptions struct {
	Name        string        // in its resource ID
	TargetType  string        // of an Ingress that names none: instance | ip
	Propagation time.Duration // of a registration or deregistration
	PodRoutes   bool          // keep routes to the nodes' pods, which needs CAP_NET_ADMIN
	GateListen  string        // address of the readiness gates' webhook; "": there are no gates
}

// Serve runs the stand-ins until ctx ends.
func Serve(ctx context.Context, o Options) error {
	if t := alb.TargetType(o.ALB.TargetType); t != "" && t != alb.InstanceTargets && t != alb.IPTargets {
		return fmt.Errorf("there is no target type %q, only %s and %s", t, alb.InstanceTargets, alb.IPTargets)
	}
	key, err := kms.OpenKey(o.State, time.Now)
	if err != nil {
		return fmt.Errorf("open the KMS key: %w", err)
	}
	doors, err := listen(o)
	if err != nil {
		return err
	}
	keys := kms.New(kms.Options{Key: key, Region: o.Region, Account: o.Account, Aliases: o.Aliases, Log: o.Log})
	o.Log.Info("serving", "kms", doors.kms.Addr().String(), "key", keys.KeyARN(), "aliases", o.Aliases)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return alb.ServeUntil(ctx, plainServer(keys), doors.kms) })
	if o.Kubeconfig == "" {
		g.Go(func() error { return alb.ServeUntil(ctx, plainServer(readyMux()), doors.admin) })
		return g.Wait()
	}
	balancer := newBalancer(o, doors)
	g.Go(func() error { return alb.ServeUntil(ctx, plainServer(balancer.Admin()), doors.admin) })
	g.Go(func() error {
		return balancer.Run(ctx, func(ctx context.Context) (kubernetes.Interface, error) {
			return connect(ctx, o.Kubeconfig, o.Log)
		})
	})
	return g.Wait()
}

func newBalancer(o Options, d doors) *alb.Balancer {
	options := alb.Options{
		HTTP: d.http, GRPC: d.grpc, Access: o.Access, Log: o.Log,
		Name: o.ALB.Name, Region: o.Region, Account: o.Account,
		TargetType: alb.TargetType(o.ALB.TargetType), Propagation: o.ALB.Propagation,
	}
	if o.ALB.PodRoutes {
		options.Pods = podnet.New(nodenet.Netlink{}, o.Log)
	}
	if d.gates != nil {
		options.Gates = &alb.Gates{Listener: d.gates, Host: func(context.Context) (string, error) { return ownAddress(o.Kubeconfig) }}
	}
	return alb.New(options)
}

// ownAddress is the one that the API server sees this process under.
func ownAddress(kubeconfig string) (string, error) {
	config, err := configOf(kubeconfig)
	if err != nil {
		return "", err
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	conn, err := net.Dial("udp", net.JoinHostPort(server.Hostname(), cmp.Or(server.Port(), "443"))) // sends nothing
	if err != nil {
		return "", fmt.Errorf("find the way to the API server: %w", err)
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

type doors struct{ kms, admin, http, grpc, gates net.Listener }

// listen opens every door or none.
func listen(o Options) (doors, error) {
	var d doors
	wanted := []struct {
		at   *net.Listener
		addr string
	}{{&d.kms, o.KMSListen}, {&d.admin, o.AdminListen}, {&d.http, o.ALBHTTP}, {&d.grpc, o.ALBGRPC}, {&d.gates, o.ALB.GateListen}}
	switch {
	case o.Kubeconfig == "":
		wanted = wanted[:2]
	case o.ALB.GateListen == "":
		wanted = wanted[:4]
	}
	for i, w := range wanted {
		l, err := net.Listen("tcp", w.addr)
		if err != nil {
			for _, opened := range wanted[:i] {
				_ = (*opened.at).Close()
			}
			return doors{}, fmt.Errorf("listen: %w", err)
		}
		*w.at = l
	}
	return d, nil
}

func plainServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
}

func readyMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ready\n") })
	return mux
}

// connect waits for the kubeconfig to be written, since AWS may be there
// before its cluster is, and returns a client for it.
func connect(ctx context.Context, path string, log *slog.Logger) (kubernetes.Interface, error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for told := ""; ; {
		client, err := clientOf(path)
		if err == nil {
			return client, nil
		}
		if why := err.Error(); why != told { // a file that is half written is not an end either
			log.Info("waiting for the kubeconfig", "path", path, "reason", why)
			told = why
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func clientOf(path string) (kubernetes.Interface, error) {
	config, err := configOf(path)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "fakeaws"
	return kubernetes.NewForConfig(config)
}

func configOf(path string) (*rest.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return config, nil
}

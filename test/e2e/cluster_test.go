//go:build e2e

package e2e

import (
	"context"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"
)

func TestClusterIsShapedLikeEKS(t *testing.T) {
	feature := features.New("topology ci").
		Assess("workers carry EKS's labels, one in each zone", func(ctx context.Context, t *testing.T, cfg *envconf.Config) context.Context {
			var nodes corev1.NodeList
			if err := cfg.Client().Resources().List(ctx, &nodes); err != nil {
				t.Fatal(err)
			}
			zones := map[string]int{}
			for _, n := range nodes.Items {
				if _, ok := n.Labels["node-role.kubernetes.io/control-plane"]; ok {
					continue
				}
				zones[n.Labels[corev1.LabelTopologyZone]]++
				for label, want := range map[string]string{
					corev1.LabelTopologyRegion:       "us-east-1",
					corev1.LabelInstanceTypeStable:   "t3.large",
					"eks.amazonaws.com/capacityType": "ON_DEMAND",
				} {
					if n.Labels[label] != want {
						t.Errorf("%s: label %s = %q, want %q", n.Name, label, n.Labels[label], want)
					}
				}
				if got := n.Status.Capacity.Pods().Value(); got != 35 {
					t.Errorf("%s holds %d pods, want 35", n.Name, got)
				}
				if !strings.HasPrefix(n.Spec.ProviderID, "aws:///us-east-1") {
					t.Errorf("%s has provider id %q", n.Name, n.Spec.ProviderID)
				}
			}
			for _, zone := range []string{"us-east-1a", "us-east-1b", "us-east-1c"} {
				if zones[zone] != 1 {
					t.Errorf("%d workers in %s, want 1", zones[zone], zone)
				}
			}
			return ctx
		}).
		Assess("gp3 is the one default storage class", func(ctx context.Context, t *testing.T, cfg *envconf.Config) context.Context {
			var classes storagev1.StorageClassList
			if err := cfg.Client().Resources().List(ctx, &classes); err != nil {
				t.Fatal(err)
			}
			var defaults []string
			for _, c := range classes.Items {
				if c.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
					defaults = append(defaults, c.Name)
				}
			}
			if len(defaults) != 1 || defaults[0] != "gp3" {
				t.Errorf("default storage classes %v, want only gp3", defaults)
			}
			return ctx
		}).
		Assess("the API is published on 127.0.0.1 only", func(ctx context.Context, t *testing.T, cfg *envconf.Config) context.Context {
			u, err := url.Parse(cfg.Client().RESTConfig().Host)
			if err != nil {
				t.Fatal(err)
			}
			if u.Hostname() != "127.0.0.1" {
				t.Errorf("the API server is at %s", u.Host)
			}
			return ctx
		}).Feature()
	testenv.Test(t, feature)
}

func TestUpAgainReusesTheCluster(t *testing.T) {
	feature := features.New("reuse").
		Assess("a second up keeps the nodes", func(ctx context.Context, t *testing.T, cfg *envconf.Config) context.Context {
			before := nodeUIDs(ctx, t, cfg)
			if out := meshsim(ctx, "up", "--name", clusterName, "--topology", "ci"); out.code != 0 {
				t.Fatalf("exit code %d\n%s", out.code, out.stderr)
			}
			if after := nodeUIDs(ctx, t, cfg); after != before {
				t.Errorf("the nodes were raised again: %s, before %s", after, before)
			}
			return ctx
		}).Feature()
	testenv.Test(t, feature)
}

func nodeUIDs(ctx context.Context, t *testing.T, cfg *envconf.Config) string {
	t.Helper()
	var nodes corev1.NodeList
	if err := cfg.Client().Resources().List(ctx, &nodes); err != nil {
		t.Fatal(err)
	}
	var uids []string
	for _, n := range nodes.Items {
		uids = append(uids, string(n.UID))
	}
	return strings.Join(uids, ",")
}

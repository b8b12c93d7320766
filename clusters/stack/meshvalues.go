package stack

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"helm.sh/helm/v3/pkg/chartutil"
)

// meshValues are the values that Linkerd's control plane chart and the
// stand-in's have in common.
func meshValues(env *Env, anchor, iptables string) map[string]any {
	values := map[string]any{
		"identityTrustAnchorsPEM": anchor,
		"identityTrustDomain":     TrustDomain,
		"clusterDomain":           TrustDomain,
		"identity":                map[string]any{"issuer": map[string]any{"scheme": "kubernetes.io/tls"}},
		"controllerReplicas":      1,
		// Fail closed: a pod that should have a proxy must not start without one (R6).
		"webhookFailurePolicy": "Fail",
		"disableHeartBeat":     true,
		"proxyInit": map[string]any{
			"iptablesMode": iptables,
			// A pod counts as large as its init container asks to be.
			"resources": map[string]any{"cpu": map[string]any{"request": milliCPU(env, 100)}},
		},
		"proxy": map[string]any{"resources": proxyResources(env)},
	}
	if env.Mesh == MeshStandIn {
		// A core is plenty for a pod of this shop. What Linkerd's own proxies may use
		// is left to its chart, as in production.
		values["proxy"].(map[string]any)["cores"] = 1
	}
	for _, w := range webhooks() {
		values[w.Value] = map[string]any{"externalSecret": true, "injectCaFrom": NamespaceMesh + "/" + w.Service}
	}
	if env.HA {
		maps.Copy(values, haValues(env))
	}
	return values
}

// haReplicas is how many of each part of the control plane there are.
const haReplicas = 3

// haValues are those of the chart's values-ha.yaml, the requests fitted to the host.
func haValues(env *Env) map[string]any {
	values := map[string]any{
		"controllerReplicas":        haReplicas,
		"enablePodDisruptionBudget": true,
		"enablePodAntiAffinity":     true,
		"deploymentStrategy":        map[string]any{"rollingUpdate": map[string]any{"maxUnavailable": 1, "maxSurge": "25%"}},
		"highAvailability":          true, // read by `linkerd check`
	}
	for part, memory := range map[string]int{"destination": 50, "identity": 10, "proxyInjector": 50, "spValidator": 50} {
		if env.Mesh == MeshStandIn {
			values[part+"Resources"] = resources(env.Fit, 100, memory, 250)
			continue
		}
		values[part+"Resources"] = map[string]any{
			"cpu":    map[string]any{"request": milliCPU(env, 100)},
			"memory": map[string]any{"request": fmt.Sprintf("%dMi", scaled(memory, env.Fit.Memory)), "limit": "250Mi"},
		}
	}
	return values
}

// milliCPU is a request fitted to the host, never so little that it is not scheduled fairly.
func milliCPU(env *Env, full int) string {
	return fmt.Sprintf("%dm", max(5, scaled(full, env.Fit.CPU)))
}

// proxyResources are a proxy's as Linkerd's charts spell them. Of Linkerd's own
// only the highly available form has a limit of memory; the stand-in's tells how
// much it may take on.
func proxyResources(env *Env) map[string]any {
	memory := map[string]any{"request": fmt.Sprintf("%dMi", max(16, scaled(20, env.Fit.Memory)))}
	if env.HA || env.Mesh == MeshStandIn {
		memory["limit"] = "250Mi"
	}
	return map[string]any{"cpu": map[string]any{"request": milliCPU(env, 100)}, "memory": memory}
}

// LinkerdParts says which images and charts of Linkerd a bundle holds, and which it lacks.
func LinkerdParts(images Images) (has, lacks []string) {
	note := func(name string, err error) {
		if err != nil {
			lacks = append(lacks, name)
		} else {
			has = append(has, name)
		}
	}
	for _, name := range []string{"linkerd-controller", "linkerd-policy-controller", "linkerd-proxy", "linkerd-proxy-init"} {
		_, err := images.Image(name)
		note("image "+name, err)
	}
	for _, name := range []string{linkerdCRDs, linkerdControlPlane} {
		_, err := images.Chart(name)
		note("chart "+name, err)
	}
	return has, lacks
}

// linkerdImages puts the bundle's images in the place of the chart's.
func linkerdImages(env *Env, values map[string]any) error {
	image := func(name string) (map[string]any, error) {
		v, err := imageValues(env, name)
		if err != nil {
			return nil, err
		}
		return map[string]any{"name": v["repository"], "version": v["tag"], "pullPolicy": v["pullPolicy"]}, nil
	}
	controller, err := image("linkerd-controller")
	if err != nil {
		return err
	}
	policy, err := image("linkerd-policy-controller")
	if err != nil {
		return err
	}
	proxy, err := image("linkerd-proxy")
	if err != nil {
		return err
	}
	initialiser, err := image("linkerd-proxy-init")
	if err != nil {
		return err
	}
	values["controllerImage"], values["controllerImageVersion"] = controller["name"], controller["version"]
	values["imagePullPolicy"] = controller["pullPolicy"]
	values["policyController"] = map[string]any{"image": policy}
	values["proxy"].(map[string]any)["image"] = proxy
	values["proxyInit"].(map[string]any)["image"] = initialiser
	return nil
}

// iptablesMode is nft where the host's kernel has no ip_tables: the nodes are
// containers and share it (failure mode R9).
func iptablesMode(root fs.FS) string {
	for _, sign := range []string{"proc/net/ip_tables_names", "sys/module/ip_tables"} {
		if _, err := fs.Stat(root, sign); err == nil {
			return "legacy"
		}
	}
	return "nft"
}

// MeshVersion is the version of Linkerd that the bundle's chart installs, such
// as stable-2.14.10; "" when it does not say.
func MeshVersion(env *Env) string {
	dir, err := env.Images.Chart(linkerdControlPlane)
	if err != nil {
		return ""
	}
	meta, err := chartutil.LoadChartfile(filepath.Join(dir, chartutil.ChartfileName))
	if err != nil {
		return ""
	}
	return meta.AppVersion
}

package stack

import (
	"fmt"
	"io/fs"
)

// meshValues are the values that Linkerd's control plane chart and the
// stand-in's have in common.
func meshValues(env *Env, anchor, iptables string) map[string]any {
	values := map[string]any{
		"identityTrustAnchorsPEM": anchor,
		"identityTrustDomain":     "cluster.local",
		"clusterDomain":           "cluster.local",
		"identity":                map[string]any{"issuer": map[string]any{"scheme": "kubernetes.io/tls"}},
		"controllerReplicas":      1,
		// Fail closed: a pod that should have a proxy must not start without one (R6).
		"webhookFailurePolicy": "Fail",
		"disableHeartBeat":     true,
		"proxyInit":            map[string]any{"iptablesMode": iptables},
		// A core is plenty for a pod of this shop, and two wake each other for nothing.
		"proxy": map[string]any{"resources": proxyResources(env), "cores": 1},
	}
	for _, w := range webhooks(env.Mesh) {
		values[w.Value] = map[string]any{"externalSecret": true, "injectCaFrom": NamespaceMesh + "/" + w.Service}
	}
	return values
}

// proxyResources are a proxy's as Linkerd's charts spell them.
func proxyResources(env *Env) map[string]any {
	return map[string]any{
		"cpu": map[string]any{"request": fmt.Sprintf("%dm", max(5, scaled(100, env.Fit.CPU)))},
		"memory": map[string]any{
			"request": fmt.Sprintf("%dMi", max(16, scaled(20, env.Fit.Memory))),
			"limit":   "250Mi",
		},
	}
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

package stack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/topology"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// shop is the eight services with their database.
type shop struct{}

func (shop) Name() string { return "shop" }

const (
	shopRelease  = "shop"
	postgresName = "postgres"
	postgresPod  = "postgres-0"
	replicaName  = "postgres-replica"
)

// ReplicaPod is the pod of the database's streaming replica.
const ReplicaPod = replicaName + "-0"

// Databases are the StatefulSets of the shop's database: the primary, and its
// replica where there is one.
func Databases() []string { return []string{postgresName, replicaName} }

// shopClaims are the volumes of the database, which outlive its pods.
var shopClaims = []string{"data-postgres-0", "data-postgres-replica-0"}

// Install puts the shop on the cluster or changes it. The Secret that services
// read at first is made here and nowhere written down. Services that go back to
// it after it was retired get a new one. A shop of an earlier program that
// cannot be changed into this one is taken away first; its data stays.
func (s shop) Install(ctx context.Context, env *Env) error {
	values, err := s.values(env)
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, env, NamespaceShop); err != nil {
		return err
	}
	if err := ensureShopSecret(ctx, env, readsFiles(values)); err != nil {
		return err
	}
	c, err := chartFromFS(shopchart.FS, ".")
	if err != nil {
		return err
	}
	if hasReplica(values) {
		if err := ensureReplicationSecret(ctx, env); err != nil {
			return err
		}
	}
	r := release{Name: shopRelease, Namespace: NamespaceShop, Chart: c, Values: values}
	err = env.helm().Put(ctx, env, r)
	if err != nil && strings.Contains(err.Error(), "field is immutable") {
		// The release counts as broken off now, and is put anew.
		return env.helm().Put(ctx, env, r)
	}
	return err
}

func (s shop) values(env *Env) (map[string]any, error) {
	app, err := imageValues(env, "fakeshop")
	if err != nil {
		return nil, err
	}
	postgres, err := postgresValues(env)
	if err != nil {
		return nil, err
	}
	values := map[string]any{
		"images": map[string]any{
			"shop":       map[string]any{"repository": app["repository"], "tag": app["tag"]},
			"postgres":   postgres,
			"pullPolicy": app["pullPolicy"],
		},
		"fit":     map[string]any{"cpu": factorOrOne(env.Fit.CPU), "memory": factorOrOne(env.Fit.Memory)},
		"secrets": map[string]any{"source": sourceFile, "existingSecret": shopSecret},
		"vault":   map[string]any{"address": vaultAddress, "caConfigMap": vaultCAConfigMap},
	}
	if limit := replicaLimit(env.Fit); limit > 0 {
		values["replicaLimit"] = limit
	}
	if roomy(env.Fit) {
		values["postgres"] = map[string]any{"replica": map[string]any{"enabled": true, "existingSecret": replicationSecret}}
	}
	return withOverrides(env, s.Name(), values), nil
}

// replicaLimit holds every service at the lower end of the shop's 3–5 replicas
// on a host with less than half the CPU that the topology has; 0 is no limit.
func replicaLimit(fit topology.Fit) int {
	if roomy(fit) {
		return 0
	}
	return 3
}

// roomy says whether the host has at least half the CPU that the topology has.
// Only there the database gets the replica that the case study gives it.
func roomy(fit topology.Fit) bool { return factorOrOne(fit.CPU) >= 0.5 }

// hasReplica says whether the values ask for a replica of the database.
func hasReplica(values map[string]any) bool {
	enabled, _ := valueAt(values, "postgres", "replica", "enabled").(bool)
	return enabled
}

// valueAt is a value deep in values, nil when there is none.
func valueAt(values map[string]any, path ...string) any {
	var v any = values
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func factorOrOne(f float64) float64 {
	if f <= 0 || f > 1 {
		return 1
	}
	return f
}

// postgresUser is the numeric id that the user postgres has, in the image that
// the bundle builds as in the official one.
const postgresUser = 999

func postgresValues(env *Env) (map[string]any, error) {
	img, err := env.Images.Image(postgresName)
	if err != nil {
		return nil, err
	}
	values, err := imageValues(env, postgresName)
	if err != nil {
		return nil, err
	}
	major, err := postgresMajor(img)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"repository": values["repository"], "tag": values["tag"],
		"uid": postgresUser, "gid": postgresUser, "major": major,
	}, nil
}

// postgresMajor reads the 15 of a version such as 15.14-0+deb12u1.
func postgresMajor(img bundle.Image) (int, error) {
	digits := img.Version
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("image %s: version %q does not begin with a number", img.Name, img.Version)
	}
	return major, nil
}

// readsFiles says whether any service reads its secrets from the Secret.
func readsFiles(values map[string]any) bool {
	source := sourceFile
	if s, ok := values["secrets"].(map[string]any); ok {
		if v, ok := s["source"].(string); ok && v != "" {
			source = v
		}
	}
	services, _ := values["services"].(map[string]any)
	for _, name := range shopchart.Services() {
		own := source
		if s, ok := services[name].(map[string]any); ok {
			if v, ok := s["secretsSource"].(string); ok && v != "" {
				own = v
			}
		}
		if own == sourceFile {
			return true
		}
	}
	return false
}

func (s shop) Ready(ctx context.Context, env *Env) error {
	values, err := s.values(env)
	if err != nil {
		return err
	}
	databases := []string{postgresName}
	if hasReplica(values) {
		databases = append(databases, replicaName)
	}
	for _, name := range databases {
		if err := env.Kube.WaitRollout(ctx, "statefulset", NamespaceShop, name); err != nil {
			return err
		}
	}
	for _, name := range shopDeployments(values) {
		if err := env.Kube.WaitRollout(ctx, "deployment", NamespaceShop, name); err != nil {
			return err
		}
	}
	return nil
}

// shopDeployments are the services' Deployments, canaries behind their service.
func shopDeployments(values map[string]any) (names []string) {
	for _, service := range shopchart.Services() {
		names = append(names, service)
		versions, _ := valueAt(values, "canaries", service).(map[string]any)
		for _, version := range slices.Sorted(maps.Keys(versions)) {
			names = append(names, service+"-"+version)
		}
	}
	return names
}

// Remove takes the shop away with its database.
func (shop) Remove(ctx context.Context, env *Env) error {
	if err := env.helm().Drop(ctx, env, shopRelease, NamespaceShop); err != nil {
		return err
	}
	core := env.Kube.Clientset.CoreV1()
	for _, claim := range shopClaims {
		if err := ignoreNotFound(core.PersistentVolumeClaims(NamespaceShop).Delete(ctx, claim, metav1.DeleteOptions{})); err != nil {
			return fmt.Errorf("delete the database's volume claim %s: %w", claim, err)
		}
	}
	if err := ignoreNotFound(core.ConfigMaps(NamespaceShop).Delete(ctx, vaultCAConfigMap, metav1.DeleteOptions{})); err != nil {
		return fmt.Errorf("delete config map %s: %w", vaultCAConfigMap, err)
	}
	if err := deleteSecrets(ctx, env, NamespaceShop, shopSecret, replicationSecret); err != nil {
		return err
	}
	for _, claim := range shopClaims {
		err := env.Kube.WaitGone(ctx, "volume claim "+claim, func(ctx context.Context) error {
			_, err := core.PersistentVolumeClaims(NamespaceShop).Get(ctx, claim, metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package stack

import (
	"context"
	"fmt"
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
	shopRelease   = "shop"
	postgresName  = "postgres"
	postgresPod   = "postgres-0"
	postgresClaim = "data-postgres-0"
)

// Install puts the shop on the cluster or changes it. The Secret that services
// read at first is made here and nowhere written down. Services that go back to
// it after it was retired get a new one.
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
	return env.helm().Put(ctx, env, release{Name: shopRelease, Namespace: NamespaceShop, Chart: c, Values: values})
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
	return withOverrides(env, s.Name(), values), nil
}

// replicaLimit holds every service at the lower end of the shop's 3–5 replicas
// on a host with less than half the CPU that the topology has; 0 is no limit.
func replicaLimit(fit topology.Fit) int {
	if factorOrOne(fit.CPU) < 0.5 {
		return 3
	}
	return 0
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

func (shop) Ready(ctx context.Context, env *Env) error {
	if err := env.Kube.WaitRollout(ctx, "statefulset", NamespaceShop, postgresName); err != nil {
		return err
	}
	for _, name := range shopchart.Services() {
		if err := env.Kube.WaitRollout(ctx, "deployment", NamespaceShop, name); err != nil {
			return err
		}
	}
	return nil
}

// Remove takes the shop away with its database.
func (shop) Remove(ctx context.Context, env *Env) error {
	if err := env.helm().Drop(ctx, env, shopRelease, NamespaceShop); err != nil {
		return err
	}
	core := env.Kube.Clientset.CoreV1()
	if err := ignoreNotFound(core.PersistentVolumeClaims(NamespaceShop).Delete(ctx, postgresClaim, metav1.DeleteOptions{})); err != nil {
		return fmt.Errorf("delete the database's volume claim: %w", err)
	}
	if err := ignoreNotFound(core.ConfigMaps(NamespaceShop).Delete(ctx, vaultCAConfigMap, metav1.DeleteOptions{})); err != nil {
		return fmt.Errorf("delete config map %s: %w", vaultCAConfigMap, err)
	}
	if err := deleteSecrets(ctx, env, NamespaceShop, shopSecret); err != nil {
		return err
	}
	return env.Kube.WaitGone(ctx, "volume claim "+postgresClaim, func(ctx context.Context) error {
		_, err := core.PersistentVolumeClaims(NamespaceShop).Get(ctx, postgresClaim, metav1.GetOptions{})
		return err
	})
}

package stack

import (
	"fmt"
	"math"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"

	"meshsim.dev/meshsim/clusters/topology"
)

// imageValues is an image of the bundle as charts take it.
func imageValues(env *Env, name string) (map[string]any, error) {
	img, err := env.Images.Image(name)
	if err != nil {
		return nil, err
	}
	repository, tag, err := splitReference(img.Ref)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	policy := "IfNotPresent"
	if img.Source != "" {
		// Somebody's own tag may be pushed again; a node must not run its old image.
		policy = "Always"
	}
	return map[string]any{"repository": repository, "tag": tag, "pullPolicy": policy}, nil
}

// splitReference takes repository:tag apart. A port in the registry's name is
// not a tag, and a digest behind the tag is left out: charts join the two by a colon.
func splitReference(ref string) (repository, tag string, err error) {
	ref, _, _ = strings.Cut(ref, "@")
	colon := strings.LastIndexByte(ref, ':')
	if colon <= 0 || colon < strings.LastIndexByte(ref, '/') || colon == len(ref)-1 {
		return "", "", fmt.Errorf("reference %q has no tag", ref)
	}
	return ref[:colon], ref[colon+1:], nil
}

// resources are a container's requests fitted to the host, and its memory
// limit, which is not: a process needs what it needs. There is no CPU limit,
// for throttling would be measured as the mesh's latency.
func resources(fit topology.Fit, milliCPU, memoryMiB, limitMiB int) map[string]any {
	return map[string]any{
		"requests": map[string]any{
			"cpu":    fmt.Sprintf("%dm", scaled(milliCPU, fit.CPU)),
			"memory": fmt.Sprintf("%dMi", scaled(memoryMiB, fit.Memory)),
		},
		"limits": map[string]any{"memory": fmt.Sprintf("%dMi", limitMiB)},
	}
}

// scaled multiplies by a fitting factor, never down to nothing; no factor is 1.
func scaled(n int, factor float64) int {
	if factor <= 0 || factor >= 1 {
		return n
	}
	return max(1, int(math.Round(float64(n)*factor)))
}

// withOverrides lays what the user gave for a component over its own values.
func withOverrides(env *Env, component string, values map[string]any) map[string]any {
	return MergeValues(env.Values[component], values)
}

// MergeValues lays chart values over others and changes neither.
func MergeValues(over, under map[string]any) map[string]any {
	if len(over) == 0 {
		return under
	}
	// MergeTables keeps its first argument's values and writes into it.
	return chartutil.MergeTables(deepCopy(over), deepCopy(under))
}

func deepCopy(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if inner, ok := v.(map[string]any); ok {
			v = deepCopy(inner)
		}
		out[k] = v
	}
	return out
}

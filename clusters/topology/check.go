package topology

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	apiVersion = "meshsim.dev/v1alpha1"
	kindName   = "Topology"
	// maxNodes is what one kind network and its /24 pod ranges carry with ease.
	maxNodes = 100
	maxDelay = time.Second
)

var (
	versionPattern  = regexp.MustCompile(`^v1\.\d+\.\d+$`)
	regionPattern   = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
	instancePattern = regexp.MustCompile(`^[a-z][a-z0-9-]*\.[a-z0-9-]+$`)
	taintPattern    = regexp.MustCompile(`^([^=:]+)(=([^=:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$`)
)

// checker gathers problems by the path of what is wrong.
type checker struct {
	doc      *document
	problems []problem
}

func (c *checker) add(path []any, format string, args ...any) {
	c.problems = append(c.problems, problem{c.doc.line(path...), fmt.Sprintf(format, args...)})
}

func (c *checker) must(ok bool, path []any, format string, args ...any) {
	if !ok {
		c.add(path, format, args...)
	}
}

// check finds everything that types alone do not refuse.
func check(doc *document) []problem {
	c := &checker{doc: doc}
	f := doc.content
	c.must(f.APIVersion == apiVersion, []any{"apiVersion"}, "apiVersion is %q, not %q", f.APIVersion, apiVersion)
	c.must(f.Kind == kindName, []any{"kind"}, "kind is %q, not %q", f.Kind, kindName)
	c.must(len(validation.IsDNS1123Subdomain(f.Metadata.Name)) == 0, []any{"metadata", "name"},
		"metadata.name %q is no name: lower-case letters, digits, '-' and '.'", f.Metadata.Name)
	s := f.Spec
	c.must(versionPattern.MatchString(s.KubernetesVersion), []any{"spec", "kubernetesVersion"},
		"kubernetesVersion %q is not like v1.24.17", s.KubernetesVersion)
	c.must(regionPattern.MatchString(s.Region), []any{"spec", "region"}, "region %q is not like us-east-1", s.Region)
	c.must(s.CrossZoneDelay >= 0 && time.Duration(s.CrossZoneDelay) <= maxDelay, []any{"spec", "crossZoneDelay"},
		"crossZoneDelay %s is not between 0 and %s", time.Duration(s.CrossZoneDelay), maxDelay)
	c.zones(s)
	c.nodeGroups(s)
	c.storageClasses(s.StorageClasses)
	return c.problems
}

func (c *checker) zones(s fileSpec) {
	c.must(len(s.Zones) > 0, []any{"spec", "zones"}, "zones is empty")
	for i, zone := range s.Zones {
		path := []any{"spec", "zones", i}
		letter, inRegion := strings.CutPrefix(zone, s.Region)
		c.must(inRegion && len(letter) == 1 && letter[0] >= 'a' && letter[0] <= 'z', path,
			"zone %q is not the region %q and a letter", zone, s.Region)
		c.must(!slices.Contains(s.Zones[:i], zone), path, "zone %q is given twice", zone)
	}
}

func (c *checker) nodeGroups(s fileSpec) {
	c.must(len(s.NodeGroups) > 0, []any{"spec", "nodeGroups"}, "nodeGroups is empty")
	total := 0
	for i, g := range s.NodeGroups {
		path := []any{"spec", "nodeGroups", i}
		at := func(key string) []any { return append(slices.Clone(path), key) }
		c.must(len(validation.IsDNS1123Label(g.Name)) == 0, at("name"), "node group's name %q is no name: lower-case letters, digits and '-'", g.Name)
		c.must(!slices.ContainsFunc(s.NodeGroups[:i], func(o fileNodeGroup) bool { return o.Name == g.Name }), at("name"), "node group %q is given twice", g.Name)
		c.must(instancePattern.MatchString(g.InstanceType), at("instanceType"), "instanceType %q is not like t3.large", g.InstanceType)
		c.must(g.VCPU >= 1 && g.VCPU <= 448, at("vcpu"), "vcpu %d is not between 1 and 448", g.VCPU)
		c.must(g.MemoryGiB >= 1 && g.MemoryGiB <= 24576, at("memoryGiB"), "memoryGiB %d is not between 1 and 24576", g.MemoryGiB)
		c.must(g.CapacityType == OnDemand || g.CapacityType == Spot, at("capacityType"), "capacityType %q is neither %s nor %s", g.CapacityType, OnDemand, Spot)
		// A node's own pods (network, proxy) take some; 250 is what a /24 of addresses carries.
		c.must(g.MaxPods >= 5 && g.MaxPods <= 250, at("maxPods"), "maxPods %d is not between 5 and 250", g.MaxPods)
		if g.VCPU > 0 && g.MemoryGiB > 0 && g.MaxPods > 0 {
			group := NodeGroup(g)
			_, memory := group.Allocatable()
			c.must(memory > 0, at("memoryGiB"), "memoryGiB %d leaves nothing to pods: EKS keeps back more than that for maxPods %d", g.MemoryGiB, g.MaxPods)
		}
		total += c.nodes(s, g, at("nodes"))
		c.labelsAndTaints(g, path)
	}
	c.must(total <= maxNodes, []any{"spec", "nodeGroups"}, "there are %d nodes, more than %d", total, maxNodes)
}

// nodes checks the counts of one group and returns their sum.
func (c *checker) nodes(s fileSpec, g fileNodeGroup, path []any) int {
	sum := 0
	for _, zone := range sortedKeys(g.Nodes) {
		n, at := g.Nodes[zone], append(slices.Clone(path), zone)
		c.must(slices.Contains(s.Zones, zone), at, "zone %q of node group %q is not among the zones", zone, g.Name)
		c.must(n >= 0 && n <= maxNodes, at, "%d nodes in %q is not between 0 and %d", n, zone, maxNodes)
		sum += min(max(n, 0), maxNodes)
	}
	c.must(sum > 0, path, "node group %q has no nodes", g.Name)
	return sum
}

func (c *checker) labelsAndTaints(g fileNodeGroup, path []any) {
	for _, key := range sortedKeys(g.Labels) {
		at := append(slices.Clone(path), "labels", key)
		for _, fault := range validation.IsQualifiedName(key) {
			c.add(at, "label %q: %s", key, fault)
		}
		for _, fault := range validation.IsValidLabelValue(g.Labels[key]) {
			c.add(at, "label %q: %s", key, fault)
		}
	}
	for i, taint := range g.Taints {
		at := append(slices.Clone(path), "taints", i)
		m := taintPattern.FindStringSubmatch(taint)
		c.must(m != nil && len(validation.IsQualifiedName(m[1])) == 0 && len(validation.IsValidLabelValue(m[3])) == 0, at,
			"taint %q is not key=value:NoSchedule, :PreferNoSchedule or :NoExecute", taint)
	}
}

func (c *checker) storageClasses(classes []fileStorageClass) {
	defaults := 0
	for i, class := range classes {
		path := []any{"spec", "storageClasses", i, "name"}
		c.must(len(validation.IsDNS1123Subdomain(class.Name)) == 0, path, "storage class %q is no name: lower-case letters, digits, '-' and '.'", class.Name)
		c.must(!slices.ContainsFunc(classes[:i], func(o fileStorageClass) bool { return o.Name == class.Name }), path, "storage class %q is given twice", class.Name)
		if class.Default {
			defaults++
		}
	}
	c.must(defaults == 1, []any{"spec", "storageClasses"}, "%d of the storageClasses are the default; it takes one", defaults)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

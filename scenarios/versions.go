package scenarios

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// Behave has a service misbehave, or behave again, by a rolling restart.
type Behave struct {
	Service   string
	Behaviour map[string]any // as the shop chart's behaviour; empty is a good one
}

// Canary gives a version of a service a share of its calls. The first of a
// service and version makes its pods, later ones change its share alone unless
// the behaviour is another.
type Canary struct {
	Service   string
	Version   string // v2 …, default v2
	Weight    int    // per cent of the calls that come through the mesh
	Behaviour map[string]any
}

// EndCanary gives all calls back to the first version and removes the canaries.
type EndCanary struct{ Service string }

// canary is what a step gives that makes a canary.
const canary = "canary"

func (d *decoder) behaviour(into *map[string]any) field {
	return func(n *yaml.Node) {
		d.values("behaviour", into)(n)
		if *into == nil {
			return
		}
		if err := shopchart.CheckBehaviour(*into); err != nil {
			d.fail(n, "behaviour is not one of the shop's (docs/shop.md): %v", err)
		}
	}
}

func (d *decoder) service(into *string) field {
	return d.oneOf("service", shopchart.Services(), into)
}

func readBehave(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Behave{}
	d.options(n, "behave", map[string]field{"service": d.service(&o.Service), "behaviour": d.behaviour(&o.Behaviour)}, "service")
	return o
}

func readCanary(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Canary{Version: "v2"}
	d.options(n, "canary", map[string]field{
		"service":   d.service(&o.Service),
		"version":   d.oneOf("version", []string{"v2", "v3"}, &o.Version),
		"weight":    d.integer("weight", 0, 100, &o.Weight),
		"behaviour": d.behaviour(&o.Behaviour),
	}, "service", "weight")
	return o
}

func readEndCanary(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &EndCanary{}
	d.options(n, "end-canary", map[string]field{"service": d.service(&o.Service)}, "service")
	return o
}

// behaving is a behaviour in words: what of it is set, not to what.
func behaving(behaviour map[string]any) string {
	if len(behaviour) == 0 {
		return "well"
	}
	return "with " + strings.Join(valuePaths(behaviour), ", ")
}

func (o *Canary) String() string {
	words := fmt.Sprintf("%s %s gets %d %% of its calls", o.Service, o.Version, o.Weight)
	if len(o.Behaviour) > 0 {
		words += ", behaving " + behaving(o.Behaviour)
	}
	return words
}

package scenarios

import (
	"embed"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/scenarios/journey"
)

// JourneysKind is the kind of a file of journeys.
const JourneysKind = "Journeys"

//go:embed journeys/*.yaml
var shippedJourneys embed.FS

// longestJourney is how many steps a journey has at most where nothing is said.
const longestJourney = 20

// readJourneys reads a shipped set by its name, or one that is written in place;
// nil where something is wrong, which has been complained of.
func (r *reader) readJourneys(n *yaml.Node) *journey.Chain {
	if n.Kind == yaml.MappingNode {
		return r.journeys(n)
	}
	if !r.scalar(n, "journeys", "the name of shipped ones, or a mapping", "!!str") {
		return nil
	}
	raw, err := shippedJourneys.ReadFile("journeys/" + n.Value + ".yaml")
	if err != nil {
		r.fail(n, "no shipped journeys are named %q; there are: %s", n.Value, strings.Join(shippedJourneyNames(), ", "))
		return nil
	}
	chain, err := parseJourneys("journeys/"+n.Value+".yaml", raw)
	if err != nil {
		r.fail(n, "%v", err)
	}
	return chain
}

func shippedJourneyNames() []string {
	entries, _ := shippedJourneys.ReadDir("journeys") // it is embedded
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// parseJourneys reads a file of journeys.
func parseJourneys(source string, raw []byte) (*journey.Chain, error) {
	root, problem := parse(raw, "a file of journeys")
	if problem != nil {
		return nil, &Problems{source, []Problem{*problem}}
	}
	r := &reader{source: source}
	var version, kind, name string
	var chain *journey.Chain
	r.mapping(root, "the file", map[string]field{
		"apiVersion": r.oneOf("apiVersion", []string{APIVersion}, &version),
		"kind":       r.oneOf("kind", []string{JourneysKind}, &kind),
		"metadata": func(n *yaml.Node) {
			r.mapping(n, "metadata", map[string]field{"name": r.name("name", &name)}, "name")
		},
		"spec": func(n *yaml.Node) { chain = r.journeys(n) },
	}, "apiVersion", "kind", "metadata", "spec")
	if len(r.problems) > 0 {
		return nil, &Problems{source, r.sorted()}
	}
	return chain, nil
}

func (r *reader) journeys(n *yaml.Node) *journey.Chain {
	before := len(r.problems)
	set := journey.Set{Longest: longestJourney}
	r.mapping(n, "journeys", map[string]field{
		"longest": r.integer("longest", 1, journey.MostSteps, &set.Longest),
		"kinds": func(n *yaml.Node) {
			r.list(n, "kinds", func(n *yaml.Node) { set.Kinds = append(set.Kinds, r.kindOfJourney(n)) })
		},
	}, "kinds")
	if len(r.problems) > before {
		return nil
	}
	chain, err := journey.New(set)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			r.fail(n, "%s", strings.TrimSpace(line))
		}
		return nil
	}
	return chain
}

func (r *reader) kindOfJourney(n *yaml.Node) journey.Kind {
	k := journey.Kind{Weight: 1, Think: journey.Think{Median: time.Second, P90: 4 * time.Second}, Steps: map[string]journey.Step{}}
	r.mapping(n, "a kind of journey", map[string]field{
		"name":   r.name("name", &k.Name),
		"weight": r.integer("weight", 0, mostWeight, &k.Weight),
		"think":  func(n *yaml.Node) { r.think(n, &k.Think) },
		"start":  func(n *yaml.Node) { k.Start = r.weights(n, "start") },
		"steps": func(n *yaml.Node) {
			r.eachKey(n, "steps", func(key, value *yaml.Node) { k.Steps[key.Value] = r.stepOfJourney(key, value) })
		},
	}, "name", "start", "steps")
	return k
}

func (r *reader) stepOfJourney(key, n *yaml.Node) journey.Step {
	step := journey.Step{Route: key.Value}
	named := false
	r.mapping(n, "a step of a journey", map[string]field{
		"route": func(n *yaml.Node) {
			named = true
			r.oneOf("route", routeNames(), &step.Route)(n)
		},
		"think": func(n *yaml.Node) {
			step.Think = &journey.Think{}
			r.think(n, step.Think)
		},
		"then": func(n *yaml.Node) { step.Then = r.weights(n, "then") },
	}, "then")
	switch {
	case key.Value == journey.Leave:
		r.fail(key, "%q ends a journey and cannot be a step's name", journey.Leave)
	case !named && !slices.Contains(routeNames(), key.Value):
		r.fail(key, "step %q needs a route: there is none of its name; there are: %s", key.Value, strings.Join(routeNames(), ", "))
	}
	return step
}

func (r *reader) think(n *yaml.Node, t *journey.Think) {
	r.mapping(n, "think", map[string]field{
		"median": r.duration("median", time.Millisecond, journey.LongestThink, &t.Median),
		"p90":    r.duration("p90", time.Millisecond, journey.LongestThink, &t.P90),
	}, "median", "p90")
}

// mostWeight is the heaviest that anything weighs.
const mostWeight = 1_000_000

// weights reads names with their weights. Which names there may be is for
// others to say.
func (r *reader) weights(n *yaml.Node, what string) map[string]int {
	weights := map[string]int{}
	r.eachKey(n, what, func(key, value *yaml.Node) {
		weight := 0
		r.integer(key.Value, 0, mostWeight, &weight)(value)
		weights[key.Value] = weight
	})
	return weights
}

// eachKey reads a mapping whose keys are names of the scenario's own.
func (d *decoder) eachKey(n *yaml.Node, what string, read func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s should be a mapping, not %s", what, kindOf(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			d.fail(key, "key %q is given twice in %s", key.Value, what)
			continue
		}
		seen[key.Value] = true
		read(key, resolve(n.Content[i+1]))
	}
}

func routeNames() []string {
	var names []string
	for _, r := range Routes() {
		names = append(names, r.Name)
	}
	return names
}

// Weights are the routes' shares of the traffic, wherever they come from.
func (t Traffic) Weights() map[string]int {
	switch {
	case t.Replay != nil:
		weights := map[string]int{}
		for _, route := range t.Replay.Routes() {
			weights[route] = int(t.Replay.Recording.Count([]string{route}))
		}
		return weights
	case t.Journeys != nil:
		const fine = 1_000_000 // of a request of each journey
		weights := map[string]int{}
		for route, n := range t.Journeys.Routes() { // those that a journey can come to
			weights[route] = max(1, int(math.Round(n*fine))) // however rare
		}
		return weights
	}
	return t.Mix
}

// wordsForJourneys says what customers do, in words.
func (t Traffic) wordsForJourneys() string {
	routes, steps := t.Journeys.Routes(), t.Journeys.Steps()
	names := slices.SortedFunc(maps.Keys(routes), func(a, b string) int {
		if routes[a] != routes[b] {
			return int(math.Copysign(1, routes[b]-routes[a]))
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %.3g%%", name, 100*routes[name]/steps)
	}
	return fmt.Sprintf("Customers make journeys of %.1f requests on average: %s.", steps, strings.Join(parts, ", "))
}

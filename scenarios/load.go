package scenarios

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/fault"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/scenarios/budget"
)

//go:embed *.yaml
var shipped embed.FS

// Summary is one shipped scenario in a line.
type Summary struct {
	Name        string        `json:"name"`
	Description string        `json:"description"`
	Topology    string        `json:"topology"`
	Phases      int           `json:"phases"`
	Budgets     int           `json:"budgets"`
	AtLeast     time.Duration `json:"atLeastNs"` // how long its traffic takes
}

// Shipped returns the scenarios that come with meshsim, by name.
func Shipped() ([]Summary, error) {
	var all []Summary
	for _, name := range shippedNames() {
		s, err := Load(name)
		if err != nil {
			return nil, err
		}
		all = append(all, Summary{
			Name: s.Metadata.Name, Description: s.Metadata.Description, Topology: s.Spec.Topology,
			Phases: len(s.Spec.Phases), Budgets: len(s.Spec.Budgets), AtLeast: s.Plan().AtLeast,
		})
	}
	return all, nil
}

func shippedNames() []string {
	files, _ := fs.Glob(shipped, "*.yaml") // the pattern is fine
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(path.Base(f), ".yaml")
	}
	slices.Sort(names)
	return names
}

// Load reads a shipped scenario by its name, or one from a file: whatever ends
// in .yaml or .yml or holds a slash is a file. What is wrong with it comes as
// one fault.Invalid around *Problems.
func Load(nameOrPath string) (*Scenario, error) {
	source, raw, err := open(nameOrPath)
	if err != nil {
		return nil, err
	}
	return Parse(source, raw)
}

// What one day may last.
const (
	shortestDay = time.Second
	longestDay  = 24 * time.Hour
)

// LoadDay is Load with days that last day in the place of traffic.compressTo. A
// day that is too short or too long, and a scenario in which no length comes from
// the day's, are a fault.Invalid that names the flag --day.
func LoadDay(nameOrPath string, day time.Duration) (*Scenario, error) {
	if day < shortestDay || day > longestDay {
		return nil, fault.NewInvalid(fmt.Errorf("--day %s: a day should last from %s to %s", day, shortestDay, longestDay), "")
	}
	source, raw, err := open(nameOrPath)
	if err != nil {
		return nil, err
	}
	return read(source, raw, day)
}

func open(nameOrPath string) (source string, raw []byte, err error) {
	isFile := strings.ContainsRune(nameOrPath, filepath.Separator) || slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(nameOrPath))
	if !isFile {
		if !slices.Contains(shippedNames(), nameOrPath) {
			return "", nil, fault.NewInvalid(fmt.Errorf("no shipped scenario is named %q; there are: %s", nameOrPath, strings.Join(shippedNames(), ", ")),
				"name one of them, or a .yaml file")
		}
		raw, err = shipped.ReadFile(nameOrPath + ".yaml")
		return nameOrPath + ".yaml", raw, err
	}
	raw, err = os.ReadFile(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fault.NewInvalid(fmt.Errorf("scenario file %s is not there", nameOrPath), "meshsim scenarios list shows the shipped ones")
	}
	if err != nil {
		return "", nil, fault.NewInvalid(fmt.Errorf("read scenario: %w", err), "name a .yaml file, or a scenario of meshsim scenarios list")
	}
	return nameOrPath, raw, nil
}

// Parse reads a scenario from raw; source names it in problems.
func Parse(source string, raw []byte) (*Scenario, error) { return read(source, raw, 0) }

// read is Parse with days that last day, unless it is 0.
func read(source string, raw []byte, day time.Duration) (*Scenario, error) {
	root, problem := parse(raw, "a scenario file")
	if problem != nil {
		return nil, invalid(&Problems{source, []Problem{*problem}})
	}
	r := &reader{source: source, day: day}
	s := r.scenario(root)
	s.Source, s.Day = source, day
	r.check(s)
	switch {
	case len(r.problems) > 0:
		return nil, invalid(&Problems{source, r.sorted()})
	case day > 0 && r.dayless:
		return nil, fault.NewInvalid(fmt.Errorf("--day %s: the traffic of %s has no day to last so long: it is %s", day, source, s.Spec.Traffic.Rates()),
			"leave --day away, or the length (lasts, compressTo) that the scenario gives its shape or replay")
	}
	return s, nil
}

func invalid(p *Problems) error {
	return fault.NewInvalid(p, "docs/scenarios.md tells every key")
}

// reader reads one scenario and remembers where its parts stand.
type reader struct {
	decoder
	source  string         // the file's name
	day     time.Duration  // in compressTo's place, unless it is 0
	dayless bool           // no length in the traffic comes from the day's
	budgets []*yaml.Node   // by index of Spec.Budgets
	phases  []*yaml.Node   // by index of Spec.Phases
	steps   [][]*yaml.Node // by phase and step
	mix     *yaml.Node
	traffic *yaml.Node
	agents  []*yaml.Node // by index of Spec.Traffic.Agents
}

func (r *reader) scenario(root *yaml.Node) *Scenario {
	s := &Scenario{Spec: defaults()}
	s.Spec.Traffic.CompressTo = cmp.Or(r.day, s.Spec.Traffic.CompressTo)
	var version, kind string
	r.mapping(root, "the scenario", map[string]field{
		"apiVersion": r.oneOf("apiVersion", []string{APIVersion}, &version),
		"kind":       r.oneOf("kind", []string{Kind}, &kind),
		"metadata": func(n *yaml.Node) {
			r.mapping(n, "metadata", map[string]field{
				"name":        r.name("name", &s.Metadata.Name),
				"description": r.text("description", &s.Metadata.Description),
			}, "name")
		},
		"spec": func(n *yaml.Node) { r.spec(n, &s.Spec) },
	}, "apiVersion", "kind", "metadata", "spec")
	return s
}

func defaults() Spec {
	return Spec{
		Topology: "eks-1.24", Seed: 1,
		Shop: Shop{Drain: true, DrainSeconds: 5, ProxyWaitSeconds: 8, TerminationGracePeriodSeconds: 30},
		Edge: defaultEdge(),
		Traffic: Traffic{
			Day: Day{Requests: 1000, LaunchRequests: 5000}, CompressTo: 90 * time.Second,
			Timeout: 5 * time.Second, MaxLate: 50 * time.Millisecond, MaxLateShare: 0.01, Sender: Sender{Connections: KeepAlive},
			Mix: map[string]int{
				"browse": 40, "search": 15, "configure": 15, "order": 8, "customer": 7,
				"recommend": 10, "grpc-get-product": 3, "grpc-stock": 2,
			},
		},
	}
}

// spec reads the parts in an order in which defaults can build on each other,
// whatever order they are written in.
func (r *reader) spec(n *yaml.Node, s *Spec) {
	var phases *yaml.Node
	r.mapping(n, "spec", map[string]field{
		"topology":  r.text("topology", &s.Topology),
		"seed":      func(n *yaml.Node) { r.seed(n, &s.Seed) },
		"shop":      func(n *yaml.Node) { r.shop(n, &s.Shop) },
		"edge":      func(n *yaml.Node) { r.edge(n, &s.Edge) },
		"evidence":  func(n *yaml.Node) { r.evidence(n, &s.Evidence) },
		"traffic":   func(n *yaml.Node) { r.readTraffic(n, &s.Traffic) },
		"overrides": func(n *yaml.Node) { r.overrides(n, "overrides", r.source, &s.Overrides) },
		"phases":    func(n *yaml.Node) { phases = n },
		"budgets": func(n *yaml.Node) {
			r.list(n, "budgets", func(n *yaml.Node) { r.budget(n, s) })
		},
	}, "phases", "budgets")
	if phases != nil {
		r.list(phases, "phases", func(n *yaml.Node) { r.phase(n, s) })
	}
}

func (r *reader) shop(n *yaml.Node, s *Shop) {
	r.mapping(n, "shop", map[string]field{
		"drain":                         r.boolean("drain", &s.Drain),
		"drainSeconds":                  r.integer("drainSeconds", 0, 600, &s.DrainSeconds),
		"proxyWaitSeconds":              r.integer("proxyWaitSeconds", 0, 600, &s.ProxyWaitSeconds),
		"terminationGracePeriodSeconds": r.integer("terminationGracePeriodSeconds", 1, 600, &s.TerminationGracePeriodSeconds),
		"minReadySeconds":               r.integer("minReadySeconds", 0, 600, &s.MinReadySeconds),
		"databaseReplica":               r.boolean("databaseReplica", &s.DatabaseReplica),
		"values":                        r.shopValues(&s.Values),
	})
}

// shopKeys are the values of the shop's chart that a scenario may set for the
// whole rehearsal; all others are its other keys' or its steps' to say.
var shopKeys = []string{"failFast", "orders", "provider", "reservations", "retries"}

func (r *reader) shopValues(into *map[string]any) field {
	return func(n *yaml.Node) {
		r.values("values", into)(n)
		if *into == nil {
			return
		}
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; !slices.Contains(shopKeys, key.Value) {
				r.fail(key, "values may be of: %s; not %s", strings.Join(shopKeys, ", "), quote(key.Value))
				return
			}
		}
		if err := shopchart.CheckValues(*into); err != nil {
			r.fail(n, "values are not the shop's (docs/shop.md): %v", err)
		}
	}
}

func (r *reader) readTraffic(n *yaml.Node, t *Traffic) {
	r.traffic = n
	var given, replay, journeys *yaml.Node
	r.mapping(n, "traffic", map[string]field{
		"shape":    func(n *yaml.Node) { given = n },
		"replay":   func(n *yaml.Node) { replay = n },
		"journeys": func(n *yaml.Node) { journeys = n },
		"sender":   func(n *yaml.Node) { r.sender(n, &t.Sender) },
		"day": func(n *yaml.Node) {
			r.mapping(n, "day", map[string]field{
				"requests":       r.integer("requests", 1, 1_000_000_000, &t.Day.Requests),
				"launchRequests": r.integer("launchRequests", 1, 1_000_000_000, &t.Day.LaunchRequests),
			})
		},
		"compressTo":   r.duration("compressTo", shortestDay, longestDay, &t.CompressTo),
		"timeout":      r.duration("timeout", 10*time.Millisecond, time.Minute, &t.Timeout),
		"maxLate":      r.duration("maxLate", time.Millisecond, time.Minute, &t.MaxLate),
		"maxLateShare": r.share("maxLateShare", &t.MaxLateShare),
		"agents": func(n *yaml.Node) {
			r.list(n, "agents", func(n *yaml.Node) { r.readAgents(n, t) })
		},
		"mix": func(n *yaml.Node) {
			t.Mix = map[string]int{}
			r.mix = n
			fields := map[string]field{}
			for _, route := range Routes() {
				fields[route.Name] = func(n *yaml.Node) {
					weight := 0
					r.integer(route.Name, 0, 1_000_000, &weight)(n)
					t.Mix[route.Name] = weight
				}
			}
			r.mapping(n, "mix", fields)
		},
	})
	t.CompressTo = cmp.Or(r.day, t.CompressTo)
	// a shape's defaults are the day's, wherever that is written
	shapes := &shapeReader{decoder: &r.decoder, traffic: *t, dir: filepath.Dir(r.source)}
	if given != nil {
		t.Shape = shapes.shape(given)
		t.ShapeText = shapes.written(given)
	}
	if journeys != nil {
		if r.mix != nil {
			r.fail(r.mix, "traffic has a mix or journeys, which bring their own routes, not both")
		}
		if replay != nil {
			r.fail(replay, "traffic has journeys or a replay, not both")
		}
		t.Journeys = r.readJourneys(journeys)
	}
	if replay == nil {
		r.dayless = given != nil && !shapes.ofDay
		return
	}
	if given != nil {
		r.fail(replay, "traffic has a shape or a replay, not both")
	}
	if r.mix != nil {
		r.fail(r.mix, "traffic has a mix or a replay, which brings its own routes, not both")
	}
	t.Replay = shapes.replay(replay)
	r.dayless = !shapes.ofDay
}

func (r *reader) phase(n *yaml.Node, s *Spec) {
	p := Phase{Scale: 1, Judged: true}
	until := false
	var nodes []*yaml.Node
	r.mapping(n, "a phase", map[string]field{
		"name":   r.name("name", &p.Name),
		"scale":  r.number("scale", 1000, &p.Scale),
		"judged": r.boolean("judged", &p.Judged),
		"steps": func(n *yaml.Node) {
			r.list(n, "steps", func(n *yaml.Node) {
				if step, ok := r.step(n, s); ok {
					p.Steps = append(p.Steps, step)
					nodes = append(nodes, n)
				}
			})
		},
		"until": func(n *yaml.Node) {
			r.mapping(n, "until", map[string]field{
				"requests": func(n *yaml.Node) {
					until = true
					r.integer("requests", 0, 100_000_000, &p.Until.Requests)(n)
				},
				"atLeast": r.duration("atLeast", 0, 24*time.Hour, &p.Until.AtLeast),
			})
		},
	}, "name")
	if !until && p.Judged {
		p.Until.Requests = budget.Needed(s.Budgets, p.Name)
	}
	s.Phases = append(s.Phases, p)
	r.phases = append(r.phases, n)
	r.steps = append(r.steps, nodes)
}

// step reads one step: a mapping with one key, or just the step's name.
func (r *reader) step(n *yaml.Node, s *Spec) (Step, bool) {
	name, options := n, &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		name, options = n.Content[0], resolve(n.Content[1])
	}
	if name.Kind != yaml.ScalarNode {
		r.fail(n, "a step should be one name with its options, such as {install: {component: mesh}}")
		return Step{}, false
	}
	kind, ok := kindOfStep(name.Value)
	if !ok {
		r.fail(name, "unknown step %s; known are: %s", quote(name.Value), strings.Join(stepNames(), ", "))
		return Step{}, false
	}
	return Step{Name: kind.name, Options: kind.read(&r.decoder, options, s)}, true
}

func (r *reader) budget(n *yaml.Node, s *Spec) {
	if !r.scalar(n, "a budget", "one line of text", "!!str") {
		return
	}
	b, err := budget.Parse(n.Value)
	if err != nil {
		column := 1
		if e, ok := errors.AsType[*budget.Error](err); ok {
			column, err = e.Column, errors.New(e.Message)
		}
		r.failIn(n, column, "budget %q: %v", n.Value, err)
		return
	}
	s.Budgets = append(s.Budgets, b)
	r.budgets = append(r.budgets, n)
}

// failIn complains about a character (from 1) of a text on one line.
func (d *decoder) failIn(n *yaml.Node, character int, format string, args ...any) {
	column := n.Column
	switch {
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		column += character
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		column += character - 1
	}
	d.failAt(n.Line, column, format, args...)
}

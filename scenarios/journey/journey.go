// Package journey is what customers do one after another: each journey is a
// walk through a Markov chain of steps with time to think between them. A walk
// is a function of its randomness alone, never of what the shop answers.
package journey

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Leave is what comes after a journey's last step.
const Leave = "leave"

// Set is all kinds of journeys that customers make.
type Set struct {
	// Longest is the most steps that a journey has: it ends there, wherever its
	// walk has come to.
	Longest int    `json:"longest"`
	Kinds   []Kind `json:"kinds"`
}

// Kind is one kind of customer.
type Kind struct {
	Name   string          `json:"name"`
	Weight int             `json:"weight"` // among all kinds
	Think  Think           `json:"think"`  // between two steps
	Start  map[string]int  `json:"start"`  // weights of the first step
	Steps  map[string]Step `json:"steps"`
}

// Step is one request of a customer.
type Step struct {
	Route string         `json:"route"`
	Then  map[string]int `json:"then"` // weights of the next step, and of Leave
	Think *Think         `json:"think,omitempty"`
}

// Think is how long customers take from one step to the next: a lognormal
// distribution, as people's pauses have a long tail.
type Think struct {
	Median time.Duration `json:"medianNs"`
	P90    time.Duration `json:"p90Ns"`
}

// Visit is one step of a walk.
type Visit struct {
	Route string
	After time.Duration // since the journey began
}

// Bounds of a set.
const (
	MostSteps    = 200           // Longest at most
	LongestThink = 6 * time.Hour // a pause is cut there
)

// Chain is a Set made ready to be walked. It never changes.
type Chain struct {
	set    Set
	kinds  choice
	walks  []walk
	routes map[string]float64
	steps  float64
	delays []time.Duration
}

// walk is one kind.
type walk struct {
	start choice
	steps []state
}

type state struct {
	name, route string
	then        choice
	think       lognormal
}

// New checks a set and makes it ready.
func New(set Set) (*Chain, error) {
	c := &Chain{set: set}
	var errs []error
	if set.Longest < 1 || set.Longest > MostSteps {
		errs = append(errs, fmt.Errorf("longest should be from 1 to %d steps, not %d", MostSteps, set.Longest))
	}
	if len(set.Kinds) == 0 {
		errs = append(errs, errors.New("there is no kind of journey"))
	}
	weights := make([]int, len(set.Kinds))
	for i, k := range set.Kinds {
		w, err := newWalk(k)
		if err != nil {
			errs = append(errs, fmt.Errorf("journey %s: %w", k.Name, err))
		}
		c.walks, weights[i] = append(c.walks, w), k.Weight
	}
	kinds, err := newChoice(weights)
	if err != nil && len(set.Kinds) > 0 {
		errs = append(errs, fmt.Errorf("the weights of the kinds: %w", err))
	}
	c.kinds = kinds
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.routes = c.count()
	for _, route := range slices.Sorted(maps.Keys(c.routes)) { // in order, so that the sum is always the same
		c.steps += c.routes[route]
	}
	c.delays = c.sample()
	return c, nil
}

func newWalk(k Kind) (walk, error) {
	names := slices.Sorted(maps.Keys(k.Steps)) // in their order, so that a seed means one walk
	var w walk
	var errs []error
	keep := func(err error, what string) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	var err error
	w.start, err = choose(k.Start, names, false)
	keep(err, "start")
	usual, err := newLognormal(k.Think)
	keep(err, "think")
	for _, name := range names {
		step := k.Steps[name]
		s := state{name: name, route: cmp.Or(step.Route, name), think: usual}
		s.then, err = choose(step.Then, names, true)
		keep(err, "after "+name)
		if step.Think != nil {
			s.think, err = newLognormal(*step.Think)
			keep(err, "think after "+name)
		}
		w.steps = append(w.steps, s)
	}
	return w, errors.Join(errs...)
}

// choose makes the choice among steps; the index after the last is Leave.
func choose(weights map[string]int, names []string, mayLeave bool) (choice, error) {
	list := make([]int, len(names), len(names)+1)
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		i, known := slices.BinarySearch(names, name)
		switch {
		case known:
			list[i] = weights[name]
		case name == Leave && mayLeave:
			list = append(list, weights[name])
		default:
			return choice{}, fmt.Errorf("there is no step %q", name)
		}
	}
	return newChoice(list)
}

// Set is what the chain was made of.
func (c *Chain) Set() Set { return c.set }

// Walk goes through one journey and appends its steps to into.
func (c *Chain) Walk(rng *rand.Rand, into []Visit) []Visit {
	w := c.walks[c.kinds.pick(rng)]
	var after time.Duration
	for at := w.start.pick(rng); ; {
		s := w.steps[at]
		into = append(into, Visit{s.route, after})
		at = s.then.pick(rng)
		if at >= len(w.steps) || len(into) >= c.set.Longest {
			return into
		}
		after += s.think.draw(rng)
	}
}

// Steps returns how many steps a journey has on average.
func (c *Chain) Steps() float64 { return c.steps }

// Routes returns how many requests of each route a journey makes on average.
func (c *Chain) Routes() map[string]float64 { return maps.Clone(c.routes) }

// Delays returns how long after their journeys' beginnings requests come, in
// order, as quantiles of a sample. The first steps come at once.
func (c *Chain) Delays() []time.Duration { return slices.Clone(c.delays) }

// count works out Routes.
func (c *Chain) count() map[string]float64 {
	routes := map[string]float64{}
	for kind, w := range c.walks {
		now := make([]float64, len(w.steps)) // the share of customers at each step
		for i := range now {
			now[i] = c.kinds.share(kind) * w.start.share(i)
		}
		for range c.set.Longest {
			next := make([]float64, len(now))
			for i, s := range w.steps {
				if now[i] == 0 {
					continue
				}
				routes[s.route] += now[i]
				for j := range next {
					next[j] += now[i] * s.then.share(j)
				}
			}
			now = next
		}
	}
	return routes
}

// Sampling of Delays: fixed, so that a set has one answer.
const (
	sampledWalks = 4000
	delays       = 64
)

func (c *Chain) sample() []time.Duration {
	rng := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	var visits []Visit
	for range sampledWalks {
		visits = c.Walk(rng, visits[:0])
		for _, v := range visits {
			all = append(all, v.After)
		}
	}
	slices.Sort(all)
	out := make([]time.Duration, delays)
	for i := range out {
		out[i] = all[(2*i+1)*len(all)/(2*delays)]
	}
	return out
}

// lognormal is a distribution of pauses.
type lognormal struct{ mu, sigma float64 }

const z90 = 1.2815515655446004 // the standard normal's 90th percentile

func newLognormal(t Think) (lognormal, error) {
	if t.Median < time.Millisecond || t.P90 < t.Median || t.P90 > LongestThink {
		return lognormal{}, fmt.Errorf("a median of at least 1ms and a p90 from there to %s are wanted, not %s and %s", LongestThink, t.Median, t.P90)
	}
	return lognormal{math.Log(float64(t.Median)), math.Log(float64(t.P90)/float64(t.Median)) / z90}, nil
}

func (l lognormal) draw(rng *rand.Rand) time.Duration {
	return time.Duration(min(math.Exp(l.mu+l.sigma*rng.NormFloat64()), float64(LongestThink)))
}

// choice is a weighted choice among indices.
type choice struct {
	upTo []int
}

func newChoice(weights []int) (choice, error) {
	c := choice{upTo: make([]int, len(weights))}
	total := 0
	for i, w := range weights {
		if w < 0 {
			return choice{}, fmt.Errorf("a weight is %d, which is less than nothing", w)
		}
		total += w
		c.upTo[i] = total
	}
	if total == 0 {
		return choice{}, errors.New("no weight is given to anything")
	}
	return c, nil
}

func (c choice) total() int { return c.upTo[len(c.upTo)-1] }

func (c choice) pick(rng *rand.Rand) int {
	at := rng.IntN(c.total())
	i, _ := slices.BinarySearch(c.upTo, at+1)
	return i
}

func (c choice) share(i int) float64 {
	if i >= len(c.upTo) {
		return 0
	}
	w := c.upTo[i]
	if i > 0 {
		w -= c.upTo[i-1]
	}
	return float64(w) / float64(c.total())
}

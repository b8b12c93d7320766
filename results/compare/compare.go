// Package compare says which budgets moved between two judged runs, and whether
// that is more than chance.
package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
)

// Side is one of the two runs.
type Side struct {
	Run     results.Run
	Verdict results.Verdict
}

// Moves of a budget.
const (
	Worse   = "worse"
	Better  = "better"
	Same    = "same"    // no more apart than chance puts them
	Open    = "open"    // too little was seen on a side to say
	Missing = "missing" // only one of the runs has it
)

// Change is what became of one budget in one phase.
type Change struct {
	Text   string `json:"text"`
	Phase  string `json:"phase"`
	Move   string `json:"move"`
	Why    string `json:"why"`
	Before *Value `json:"before"`
	After  *Value `json:"after"`
}

// Value is one run's part of a change.
type Value struct {
	Verdict  results.Judgement `json:"verdict"`
	Measured string            `json:"measured"`
	Figure   *results.Figure   `json:"figure,omitempty"`
}

// Unlike is something that the two runs do not have in common.
type Unlike struct {
	What   string `json:"what"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Comparison is two runs side by side.
type Comparison struct {
	Before  Summary  `json:"before"`
	After   Summary  `json:"after"`
	Unlike  []Unlike `json:"unlike"`
	Changes []Change `json:"changes"`
}

// Summary is one run in short.
type Summary struct {
	Run      string            `json:"run"`
	Scenario string            `json:"scenario"`
	Verdict  results.Judgement `json:"verdict"`
	Requests int64             `json:"requests"`
	Failed   int64             `json:"failed"`
}

// Count returns how many budgets made a move.
func (c Comparison) Count(move string) (n int) {
	for _, one := range c.Changes {
		if one.Move == move {
			n++
		}
	}
	return n
}

// Comparable tells whether anything could be compared.
func (c Comparison) Comparable() bool {
	return c.Count(Worse)+c.Count(Better)+c.Count(Same) > 0
}

// What a record that was cut off may not say.
const (
	unnamed = "a run without a name"
	untold  = "it does not say what"
)

// Runs compares two runs. Those of different scenarios are refused, unless
// anyway is set: their budgets are about different things.
func Runs(before, after Side, anyway bool) (Comparison, error) {
	if before.Verdict.Scenario != after.Verdict.Scenario && !anyway {
		return Comparison{}, fault.NewInvalid(fmt.Errorf("%s rehearsed %s and %s rehearsed %s: their budgets are about different things",
			cmp.Or(before.Verdict.Run, unnamed), cmp.Or(before.Verdict.Scenario, untold), cmp.Or(after.Verdict.Run, unnamed), cmp.Or(after.Verdict.Scenario, untold)), "--unlike compares what they have in common nevertheless")
	}
	c := Comparison{Before: summary(before.Verdict), After: summary(after.Verdict), Unlike: unlike(before, after), Changes: []Change{}}
	if c.Unlike == nil {
		c.Unlike = []Unlike{}
	}
	used := map[int]bool{}
	for _, b := range before.Verdict.Budgets {
		i := slices.IndexFunc(after.Verdict.Budgets, func(a results.BudgetVerdict) bool { return a.Text == b.Text && a.Phase == b.Phase })
		if i < 0 {
			c.Changes = append(c.Changes, Change{Text: b.Text, Phase: b.Phase, Move: Missing, Why: "only the first run has it", Before: valueOf(b)})
			continue
		}
		used[i] = true
		c.Changes = append(c.Changes, change(before, after, b, after.Verdict.Budgets[i]))
	}
	for i, a := range after.Verdict.Budgets {
		if !used[i] {
			c.Changes = append(c.Changes, Change{Text: a.Text, Phase: a.Phase, Move: Missing, Why: "only the second run has it", After: valueOf(a)})
		}
	}
	return c, nil
}

func summary(v results.Verdict) Summary {
	return Summary{Run: v.Run, Scenario: v.Scenario, Verdict: v.Verdict, Requests: v.Requests.Total, Failed: v.Requests.Failed}
}

func valueOf(b results.BudgetVerdict) *Value {
	return &Value{Verdict: b.Verdict, Measured: b.Measured, Figure: b.Figure}
}

func change(before, after Side, b, a results.BudgetVerdict) Change {
	c := Change{Text: b.Text, Phase: b.Phase, Before: valueOf(b), After: valueOf(a)}
	switch {
	case b.Figure == nil || a.Figure == nil || b.Figure.Unit != a.Figure.Unit:
		c.Move, c.Why = byVerdict(b.Verdict, a.Verdict)
	case b.Figure.Of > 0 && a.Figure.Of > 0:
		c.Move, c.Why = byCount(*b.Figure, *a.Figure)
	case once(*b.Figure) && once(*a.Figure):
		if c.Move, c.Why = byVerdict(b.Verdict, a.Verdict); c.Move == Same || c.Move == Open {
			c.Move, c.Why = Same, "measured once in each: no two are equal"
		}
	default:
		c.Move, c.Why = byInterval(*b.Figure, *a.Figure)
	}
	return c
}

// once tells a duration that was measured a single time: nobody knows how much it
// differs from time to time, so only its budget tells whether it has moved.
func once(f results.Figure) bool {
	return (f.Unit == "ms" || f.Unit == "s") && f.Low == nil && f.High == nil
}

// byVerdict compares what has no number, or one that says too little.
func byVerdict(before, after results.Judgement) (move, why string) {
	switch {
	case before == results.Inconclusive || after == results.Inconclusive:
		return Open, "a side is inconclusive, and there is no number"
	case before == after:
		return Same, "the same verdict, and there is no number"
	case after == results.Fail:
		return Worse, "it held and is broken now"
	default:
		return Better, "it was broken and holds now"
	}
}

// byInterval calls apart only what lies apart with both intervals. A plain count
// has no interval: any difference is one.
func byInterval(before, after results.Figure) (move, why string) {
	bLow, bHigh := ends(before)
	aLow, aHigh := ends(after)
	move, why = Same, "the intervals overlap"
	switch {
	case before.Value == after.Value:
		return Same, "the same value"
	case aLow > bHigh:
		move, why = Worse, "the intervals lie apart"
		if after.AtLeast {
			move = Better
		}
	case aHigh < bLow:
		move, why = Better, "the intervals lie apart"
		if after.AtLeast {
			move = Worse
		}
	}
	if move != Same && before.Low == nil && before.High == nil && after.Low == nil && after.High == nil {
		why = "a count, and it is another"
	}
	return move, why
}

func ends(f results.Figure) (low, high float64) {
	low, high = f.Value, f.Value
	if f.Low != nil {
		low = *f.Low
	}
	if f.High != nil {
		high = *f.High
	}
	return low, high
}

// significance is the probability below which a difference is more than chance.
const significance = 0.05

// byCount compares what each budget counted by Fisher's reasoning: had both runs
// the same chance of it, the second would have its part of all by a binomial
// distribution.
func byCount(before, after results.Figure) (move, why string) {
	p := splitChance(before.Bad, before.Of, after.Bad, after.Of)
	if p >= significance {
		if before.Bad == 0 && after.Bad == 0 {
			return Same, "none in either"
		}
		return Same, fmt.Sprintf("chance alone gives as much in %.0f %% of cases", 100*p)
	}
	why = "more than chance: it gives as much in less than 0.1 % of cases"
	if p >= 0.001 {
		why = fmt.Sprintf("more than chance: it gives as much in %.1f %% of cases", 100*p)
	}
	if float64(after.Bad)/float64(after.Of) > float64(before.Bad)/float64(before.Of) {
		return Worse, why
	}
	return Better, why
}

// unlike lists what two runs do not share and what may explain a move by itself.
func unlike(before, after Side) []Unlike {
	b, a := before.Run, after.Run
	var all []Unlike
	for _, one := range []Unlike{
		{"scenario", before.Verdict.Scenario, after.Verdict.Scenario},
		{"mesh", before.Verdict.Mesh, after.Verdict.Mesh},
		{"topology", b.Topology, a.Topology},
		{"Kubernetes", b.KubernetesVersion, a.KubernetesVersion},
		{"CPUs", fmt.Sprint(b.Host.CPUs), fmt.Sprint(a.Host.CPUs)},
		{"memory", gib(b.Host.MemoryBytes), gib(a.Host.MemoryBytes)},
		{"kernel", b.Host.Kernel, a.Host.Kernel},
		{"fitted CPU", fmt.Sprintf("× %.3g", b.Fit.CPU), fmt.Sprintf("× %.3g", a.Fit.CPU)},
		{"fitted memory", fmt.Sprintf("× %.3g", b.Fit.Memory), fmt.Sprintf("× %.3g", a.Fit.Memory)},
		{"traffic", sent(b.Traffic), sent(a.Traffic)},
		{"seed", fmt.Sprint(b.Seed), fmt.Sprint(a.Seed)},
		{"meshsim", b.Tool, a.Tool},
		{"stand-ins", joined(b.StandIns), joined(a.StandIns)},
		{"load balancer's targets", b.Edge.Targets, a.Edge.Targets},
		{"the shop's values", values(b.Shop), values(a.Shop)},
		{"drain", fmt.Sprintf("%t, %d s", b.Shop.Drain, b.Shop.DrainSeconds), fmt.Sprintf("%t, %d s", a.Shop.Drain, a.Shop.DrainSeconds)},
	} {
		if one.Before != one.After {
			one.Before, one.After = cmp.Or(one.Before, "none"), cmp.Or(one.After, "none")
			all = append(all, one)
		}
	}
	return append(all, images(b.Images, a.Images)...)
}

// sent says in words what was sent, "" where a record does not tell.
func sent(t results.Traffic) string {
	if t.Shape != "" || t.CompressTo == 0 {
		return t.Shape
	}
	return fmt.Sprintf("a launch day of %d requests in %s", t.LaunchPerDay, t.CompressTo)
}

// values are those that a run gave the shop beside its other settings, "" for none.
func values(s results.Shop) string {
	if len(s.Values) == 0 {
		return ""
	}
	text, err := json.Marshal(s.Values)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// images lists those whose content is another.
func images(before, after []results.Image) []Unlike {
	var all []Unlike
	for _, b := range before {
		i := slices.IndexFunc(after, func(a results.Image) bool { return a.Name == b.Name })
		if i >= 0 && after[i].Digest != b.Digest {
			was, is := cmp.Or(b.Version, b.Digest), cmp.Or(after[i].Version, after[i].Digest)
			if was == is {
				was, is = was+" as "+short(b.Digest), is+" as "+short(after[i].Digest)
			}
			all = append(all, Unlike{"image " + b.Name, was, is})
		}
	}
	return all
}

// short cuts a digest to what tells it from another.
func short(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(12, len(digest))]
}

func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func joined(names []string) string {
	return strings.Join(slices.Sorted(slices.Values(names)), "; ")
}

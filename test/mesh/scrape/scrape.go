// Package scrape reads the metrics of a proxy sample by sample, under the very
// names and labels it prints: that a histogram is three names is part of what
// dashboards count on.
package scrape

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Sample is one line of a scrape.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Samples are the lines of a scrape.
type Samples []Sample

// Parse reads the text format. Comments are passed over, so that each sample
// keeps the name it was printed under.
func Parse(text []byte) (Samples, error) {
	var lines bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
			lines.Write(bytes.TrimRight(line, "\n"))
			lines.WriteByte('\n')
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&lines)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	var all Samples
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			all = append(all, Sample{Name: name, Labels: labels, Value: m.GetUntyped().GetValue()})
		}
	}
	slices.SortStableFunc(all, func(a, b Sample) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Match keeps the samples of a name whose labels are as asked: "key=value", or
// "key" for any value but the empty one.
func (s Samples) Match(name string, labels ...string) Samples {
	var kept Samples
	for _, one := range s {
		if one.Name == name && !slices.ContainsFunc(labels, func(l string) bool { return !one.has(l) }) {
			kept = append(kept, one)
		}
	}
	return kept
}

func (s Sample) has(label string) bool {
	key, want, exact := strings.Cut(label, "=")
	got := s.Labels[key]
	return exact && got == want || !exact && got != ""
}

// Sum adds the values up.
func (s Samples) Sum() float64 {
	var sum float64
	for _, one := range s {
		sum += one.Value
	}
	return sum
}

// Values are the different values that a label has, sorted; "" for none is
// left out.
func (s Samples) Values(label string) []string {
	var all []string
	for _, one := range s {
		if v := one.Labels[label]; v != "" {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Names are the names there are, sorted.
func (s Samples) Names() []string {
	all := make([]string, len(s))
	for i, one := range s {
		all[i] = one.Name
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Package models knows what the workshop can make: of which parts a keyboard, a
// console or a handheld is put together, and which parts go together. The
// catalogue offers the parts, product by product and at its own prices; the
// configuration engine holds choices to the rules.
package models

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Option is one choice to make.
type Option struct {
	Name string
	// Required: the customer must choose. What is not chosen of the others, the
	// workshop chooses.
	Required bool
	Values   []Value
}

// Value is a part to choose, and what it adds to the price.
type Value struct {
	Name       string
	ExtraCents int64
}

// A rule says of which values certain options must be when others have certain
// values.
type rule struct {
	why  string // as a customer is told
	when []parts
	then []parts
}

// parts are some values of an option.
type parts struct {
	option string
	values []string
}

// Model is a kind of thing that can be configured.
type Model struct {
	Name    string
	Options []Option // every part there is, at its usual price
	rules   []rule
	wired   []wiredRule
}

// wiredRule is a rule by the numbers of options and values.
type wiredRule struct {
	why        string
	when, then []mask
}

type mask struct {
	option int
	values uint64
}

// ByName returns a model.
func ByName(name string) (*Model, bool) {
	i := slices.IndexFunc(all, func(m *Model) bool { return m.Name == name })
	if i < 0 {
		return nil, false
	}
	return all[i], true
}

var all = []*Model{wire(keyboard), wire(console), wire(handheld)}

// wire numbers a model's rules. A name that there is not leaves its rule
// unable to hold, which a test sees.
func wire(m Model) *Model {
	number := func(all []parts) (out []mask) {
		for _, p := range all {
			w := mask{option: m.option(p.option)}
			for _, v := range p.values {
				if i := m.value(w.option, v); i >= 0 {
					w.values |= 1 << i
				}
			}
			out = append(out, w)
		}
		return out
	}
	for _, r := range m.rules {
		m.wired = append(m.wired, wiredRule{r.why, number(r.when), number(r.then)})
	}
	return &m
}

func (m *Model) option(name string) int {
	return slices.IndexFunc(m.Options, func(o Option) bool { return o.Name == name })
}

func (m *Model) value(option int, name string) int {
	if option < 0 {
		return -1
	}
	return slices.IndexFunc(m.Options[option].Values, func(v Value) bool { return v.Name == name })
}

// open marks an option that is not chosen yet.
const open = -1

// broken tells whether what is chosen breaks a rule, whatever else is chosen.
func (r *wiredRule) broken(chosen []int) bool {
	for _, w := range r.when {
		if chosen[w.option] == open || w.values>>chosen[w.option]&1 == 0 {
			return false
		}
	}
	for _, t := range r.then {
		if chosen[t.option] != open && t.values>>chosen[t.option]&1 == 0 {
			return true
		}
	}
	return false
}

func (m *Model) fits(chosen []int) bool {
	return !slices.ContainsFunc(m.wired, func(r wiredRule) bool { return r.broken(chosen) })
}

// Complete checks the choices made among what a product offers, and makes the
// others: of all that fit, those that add least to the price. It returns the
// whole choice and what it adds, or everything that is wrong.
func (m *Model) Complete(offered []Option, made map[string]string) (whole map[string]string, extraCents int64, wrong []string) {
	s := search{model: m, offered: offered, chosen: make([]int, len(m.Options))}
	for i := range s.chosen {
		s.chosen[i] = open
	}
	if wrong := s.take(made); len(wrong) > 0 {
		return nil, 0, wrong
	}
	for _, r := range m.wired {
		if r.broken(s.chosen) {
			wrong = append(wrong, r.why)
		}
	}
	if len(wrong) > 0 {
		return nil, 0, wrong
	}
	s.prepare()
	s.choose(0, s.taken)
	if s.best == nil {
		return nil, 0, s.explain(made)
	}
	whole = map[string]string{}
	for i, v := range s.best {
		if v != open {
			whole[m.Options[i].Name] = m.Options[i].Values[v].Name
		}
	}
	return whole, s.bestCents, nil
}

// search looks for the cheapest way to make the choices that are left.
type search struct {
	model   *Model
	offered []Option
	chosen  []int
	taken   int64 // what is chosen adds to the price

	left  []toChoose
	least []int64 // what left[i:] adds at least

	best      []int
	bestCents int64
}

// toChoose is an option that is open, with its offered values, cheapest first.
type toChoose struct {
	option int
	values []int
	cents  []int64
}

// take makes the customer's choices.
func (s *search) take(made map[string]string) (wrong []string) {
	known := 0
	for _, o := range s.offered {
		choice, isMade := made[o.Name]
		if !isMade {
			if o.Required {
				wrong = append(wrong, o.Name+" is not chosen")
			}
			continue
		}
		known++
		i := slices.IndexFunc(o.Values, func(v Value) bool { return v.Name == choice })
		option := s.model.option(o.Name)
		value := s.model.value(option, choice)
		if i < 0 || value < 0 {
			wrong = append(wrong, fmt.Sprintf("%s has no %q", o.Name, choice))
			continue
		}
		s.chosen[option] = value
		s.taken += o.Values[i].ExtraCents
	}
	if known < len(made) {
		var strange []string
		for name := range made {
			if !slices.ContainsFunc(s.offered, func(o Option) bool { return o.Name == name }) {
				strange = append(strange, fmt.Sprintf("there is no option %q", name))
			}
		}
		slices.Sort(strange)
		wrong = append(wrong, strange...)
	}
	return wrong
}

func (s *search) prepare() {
	for _, o := range s.offered {
		option := s.model.option(o.Name)
		if option < 0 || s.chosen[option] != open {
			continue
		}
		byPrice := slices.Clone(o.Values)
		slices.SortStableFunc(byPrice, func(a, b Value) int { return int(a.ExtraCents - b.ExtraCents) })
		c := toChoose{option: option}
		for _, v := range byPrice {
			if i := s.model.value(option, v.Name); i >= 0 {
				c.values, c.cents = append(c.values, i), append(c.cents, v.ExtraCents)
			}
		}
		s.left = append(s.left, c)
	}
	s.least = make([]int64, len(s.left)+1)
	for i := range slices.Backward(s.left) {
		s.least[i] = s.least[i+1]
		if len(s.left[i].cents) > 0 {
			s.least[i] += s.left[i].cents[0]
		}
	}
	s.bestCents = math.MaxInt64
}

// choose makes the choices left[i:], and leaves a way as soon as it breaks a rule or cannot
// become cheaper than the best.
func (s *search) choose(i int, cents int64) {
	if cents+s.least[i] >= s.bestCents {
		return
	}
	if i == len(s.left) {
		s.best, s.bestCents = slices.Clone(s.chosen), cents
		return
	}
	c := s.left[i]
	for n, v := range c.values {
		s.chosen[c.option] = v
		if s.model.fits(s.chosen) {
			s.choose(i+1, cents+c.cents[n])
		}
	}
	s.chosen[c.option] = open
}

// explain says why nothing fits: what cannot be chosen at all, or else that the
// choices do not go together.
func (s *search) explain(made map[string]string) (wrong []string) {
	var words []string
	for _, o := range s.offered {
		if choice, isMade := made[o.Name]; isMade {
			words = append(words, o.Name+" "+choice)
		}
	}
	with := strings.Join(words, ", ")
	for _, c := range s.left {
		possible := slices.ContainsFunc(c.values, func(v int) bool {
			s.chosen[c.option] = v
			return s.model.fits(s.chosen)
		})
		s.chosen[c.option] = open
		if !possible {
			wrong = append(wrong, fmt.Sprintf("no %s goes with %s", s.model.Options[c.option].Name, with))
		}
	}
	if len(wrong) == 0 {
		wrong = append(wrong, "nothing can be made of "+with)
	}
	return wrong
}

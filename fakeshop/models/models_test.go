package models

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func model(t testing.TB, name string) *Model {
	t.Helper()
	m, ok := ByName(name)
	require.True(t, ok)
	return m
}

func TestEveryRuleIsAboutPartsThatThereAre(t *testing.T) {
	for _, m := range all {
		for _, r := range m.rules {
			require.NotEmpty(t, r.why)
			for _, p := range slices.Concat(r.when, r.then) {
				option := m.option(p.option)
				require.GreaterOrEqual(t, option, 0, "%s: %s", r.why, p.option)
				for _, v := range p.values {
					require.GreaterOrEqual(t, m.value(option, v), 0, "%s: %s %s", r.why, p.option, v)
				}
			}
		}
	}
	_, ok := ByName("teapot")
	require.False(t, ok)
}

func TestChoicesAreCompletedWithTheCheapestPartsThatFit(t *testing.T) {
	cases := []struct {
		name, model string
		made, added map[string]string
		cents       int64
	}{
		{"a plain keyboard", "keyboard", map[string]string{"switches": "linear", "keycaps": "abs", "layout": "iso"}, map[string]string{
			"case": "tray", "pcb": "soldered", "plate": "steel", "stabilisers": "clip-in", "cable": "usb-c", "firmware": "factory"}, 0},
		{"an ortho layout brings its case and no stabilisers", "keyboard", map[string]string{"switches": "tactile", "keycaps": "pbt", "layout": "ortho"},
			map[string]string{"case": "grid", "pcb": "soldered", "plate": "steel", "stabilisers": "none", "cable": "usb-c", "firmware": "factory"}, 500 + 1900 + 1200 + 2600},
		{"a gasket brings the cheapest plate that bends", "keyboard", map[string]string{"switches": "linear", "keycaps": "abs", "layout": "ansi", "case": "gasket"},
			map[string]string{"pcb": "soldered", "plate": "polycarbonate", "stabilisers": "clip-in", "cable": "usb-c", "firmware": "factory"}, 3900 + 600},
		{"low-profile switches bring a slim keyboard", "keyboard", map[string]string{"switches": "low-profile", "keycaps": "low-profile", "layout": "iso"},
			map[string]string{"case": "slim", "pcb": "slim-hot-swap", "plate": "slim-steel", "stabilisers": "clip-in", "cable": "usb-c", "firmware": "factory"},
			700 + 1500 + 2200 + 1900 + 500},
		{"magnets bring board and firmware", "keyboard", map[string]string{"switches": "magnetic", "keycaps": "pbt", "layout": "iso"},
			map[string]string{"case": "tray", "pcb": "magnetic", "plate": "steel", "stabilisers": "clip-in", "cable": "usb-c", "firmware": "rapid-trigger"},
			2500 + 1900 + 4900 + 1500},
		{"wireless brings firmware and a board with room for a battery", "keyboard",
			map[string]string{"switches": "linear", "keycaps": "abs", "layout": "iso", "cable": "wireless"},
			map[string]string{"case": "tray", "pcb": "hot-swap", "plate": "steel", "stabilisers": "clip-in", "firmware": "zmk"}, 1900 + 1500 + 900},
		{"hdmi brings a later board", "console", map[string]string{"shell": "grey", "video": "hdmi"}, map[string]string{
			"region": "pal", "board": "rev-b", "supply": "230v", "drive": "disc", "region-lock": "kept", "clock": "stock"}, 6900 + 800},
		{"a region brings its supply", "console", map[string]string{"shell": "clear", "video": "composite", "region": "ntsc-j"}, map[string]string{
			"board": "rev-a", "supply": "100v", "drive": "disc", "region-lock": "kept", "clock": "stock"}, 1500 + 500},
		{"a supply brings its region", "console", map[string]string{"shell": "grey", "video": "rgb", "supply": "120v"}, map[string]string{
			"region": "ntsc-u", "board": "rev-a", "drive": "disc", "region-lock": "kept", "clock": "stock"}, 2500},
		{"an oled handheld", "handheld", map[string]string{"screen": "oled", "battery": "rechargeable"}, map[string]string{
			"shell": "roomy", "lens": "glass", "board": "40-pin", "charger": "usb-c", "speaker": "standard"}, 9900 + 2200 + 1200 + 900 + 600 + 1200},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := model(t, c.model)
			whole, cents, wrong := m.Complete(m.Options, c.made)
			require.Empty(t, wrong)
			want := maps.Clone(c.made)
			maps.Copy(want, c.added)
			require.Equal(t, want, whole)
			require.Equal(t, c.cents, cents)
		})
	}
}

func TestWhatDoesNotGoTogetherIsRefusedInWords(t *testing.T) {
	cases := []struct {
		name, model string
		made        map[string]string
		wrong       []string
	}{
		{"everything strange at once", "keyboard", map[string]string{"switches": "soft", "colour": "red", "smell": "none"}, []string{
			`switches has no "soft"`, "keycaps is not chosen", "layout is not chosen", `there is no option "colour"`, `there is no option "smell"`}},
		{"no choices", "console", nil, []string{"shell is not chosen", "video is not chosen"}},
		{"kinds of switches that a board does not take", "keyboard",
			map[string]string{"switches": "linear", "keycaps": "low-profile", "layout": "iso", "pcb": "magnetic"},
			[]string{"low-profile keycaps need low-profile switches", "a magnetic board takes magnetic switches only"}},
		{"a plate that does not bend", "keyboard", map[string]string{"switches": "linear", "keycaps": "abs", "layout": "iso", "case": "gasket", "plate": "steel"},
			[]string{"a gasket case needs a plate that bends, which steel does not"}},
		{"choices that leave no part", "keyboard", map[string]string{"switches": "low-profile", "keycaps": "low-profile", "layout": "ortho"},
			[]string{"no case goes with switches low-profile, keycaps low-profile, layout ortho"}},
		{"choices that leave no pair of parts", "keyboard",
			map[string]string{"switches": "linear", "keycaps": "shine-through", "layout": "iso", "cable": "wireless"},
			[]string{"nothing can be made of switches linear, keycaps shine-through, layout iso, cable wireless"}},
		{"a voltage of elsewhere", "console", map[string]string{"shell": "grey", "video": "composite", "region": "pal", "supply": "100v"},
			[]string{"a pal console has a 230 V supply, or a new one by usb-c"}},
		{"a switch in a clear shell", "console", map[string]string{"shell": "clear", "video": "rgb", "region-lock": "switch", "board": "rev-c"},
			[]string{"revision c has lost the lines for rgb", "the hole for a region switch cracks a clear shell"}},
		{"an oled on cells", "handheld", map[string]string{"screen": "oled", "battery": "cells"}, []string{"an oled screen draws more than cells give"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := model(t, c.model)
			whole, _, wrong := m.Complete(m.Options, c.made)
			require.Nil(t, whole)
			require.Equal(t, c.wrong, wrong)
		})
	}
}

// Against every combination: what Complete returns keeps all rules and the
// choices made, nothing cheaper does, and what it refuses cannot be made.
func TestCompletingIsAsGoodAsTryingEverything(t *testing.T) {
	for _, m := range all {
		every := everything(m)
		require.NotEmpty(t, every, m.Name)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			made := map[string]string{}
			for _, o := range m.Options {
				if o.Required || rng.IntN(3) == 0 {
					made[o.Name] = o.Values[rng.IntN(len(o.Values))].Name
				}
			}
			least, possible := int64(0), false
			for _, c := range every {
				if matches(c.parts, made) && (!possible || c.cents < least) {
					least, possible = c.cents, true
				}
			}
			whole, cents, wrong := m.Complete(m.Options, made)
			require.Equal(t, possible, len(wrong) == 0, "%s %v: %v", m.Name, made, wrong)
			if possible {
				require.Equal(t, least, cents, "%s %v", m.Name, made)
				require.True(t, matches(whole, made))
				require.Len(t, whole, len(m.Options))
			}
		}
	}
}

type made struct {
	parts map[string]string
	cents int64
}

func matches(whole, made map[string]string) bool {
	for name, value := range made {
		if whole[name] != value {
			return false
		}
	}
	return true
}

// everything is all that keeps the rules as they are written, without their
// numbers.
func everything(m *Model) (out []made) {
	var try func(i int, parts map[string]string, cents int64)
	try = func(i int, chosen map[string]string, cents int64) {
		if i < len(m.Options) {
			for _, v := range m.Options[i].Values {
				chosen[m.Options[i].Name] = v.Name
				try(i+1, chosen, cents+v.ExtraCents)
			}
			return
		}
		holds := func(p parts) bool { return slices.Contains(p.values, chosen[p.option]) }
		for _, r := range m.rules {
			if !slices.ContainsFunc(r.when, func(p parts) bool { return !holds(p) }) && slices.ContainsFunc(r.then, func(p parts) bool { return !holds(p) }) {
				return
			}
		}
		out = append(out, made{maps.Clone(chosen), cents})
	}
	try(0, map[string]string{}, 0)
	return out
}

func FuzzComplete(f *testing.F) {
	f.Add("switches=linear,keycaps=abs,layout=iso")
	f.Add("switches=low-profile,keycaps=low-profile,layout=ortho,colour=red")
	f.Add("=,layout")
	m := model(f, "keyboard")
	f.Fuzz(func(t *testing.T, text string) {
		made := map[string]string{}
		for pair := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(pair, "=")
			made[name] = value
		}
		whole, cents, wrong := m.Complete(m.Options, made)
		if (len(wrong) == 0) != (whole != nil) || cents < 0 {
			t.Fatalf("%v, %d, %v", whole, cents, wrong)
		}
		if whole != nil && !matches(whole, made) {
			t.Fatal("a choice was changed")
		}
	})
}

func BenchmarkComplete(b *testing.B) {
	m := model(b, "keyboard")
	made := map[string]string{"switches": "linear", "keycaps": "abs", "layout": "ortho"}
	for b.Loop() {
		if _, _, wrong := m.Complete(m.Options, made); wrong != nil {
			b.Fatal(wrong)
		}
	}
}

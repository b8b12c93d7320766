// Package assortment makes what the shop sells, from a seed: the same seed makes
// the same products, prices and stock, to the last cent.
//
// Products are numbered, and come in six categories by turns. The first 240 are
// the shop's classics: their names, prices and stock follow from their number
// alone, and every 40th is one of five ever made. Behind them the seed decides:
// most are plentiful, some are few, some are the only one.
package assortment

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"meshsim.dev/meshsim/fakeshop/catalog"
	"meshsim.dev/meshsim/fakeshop/models"
)

// What the shop sells.
const (
	Seed  = 5000
	Count = 3000
	// Classics are the products with the lowest numbers, whatever the seed.
	Classics = 240

	uniqueNth = 40 // of the classics
	plenty    = 1_000_000
)

// Item is a product and how many there are of it.
type Item struct {
	catalog.Product
	Stock int64
}

// categories by number modulo 6, the first three of which can be configured.
var categories = []struct {
	name, thing string
	cents       int64
	model       string
}{
	{"keyboard", "Keyboard", 14900, "keyboard"},
	{"console", "Console", 19900, "console"},
	{"handheld", "Handheld", 12900, "handheld"},
	{"keycaps", "Keycap set", 6900, ""},
	{"audio", "Sound module", 8900, ""},
	{"kit", "Solder kit", 4900, ""},
}

var (
	makers   = []string{"Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo"}
	series   = []string{"Harbour", "Lantern", "Meadow", "Orchard", "Quarry", "Ridge", "Summit", "Tundra", "Valley", "Willow"}
	finishes = []string{"anodised", "brushed", "hand-painted", "lacquered", "laser-cut", "matte", "oiled", "polished", "powder-coated", "raw"}
)

// Make returns so many items, by id.
func Make(seed uint64, count int) []Item {
	rng := rand.New(rand.NewPCG(seed, 0x73686f70))
	items := make([]Item, 0, count)
	for n := 1; n <= count; n++ {
		if n <= Classics {
			items = append(items, classic(n))
		} else {
			items = append(items, drawn(n, rng))
		}
	}
	return items
}

func classic(n int) Item {
	c, maker := categories[n%len(categories)], makers[n%len(makers)]
	item := Item{Stock: plenty, Product: catalog.Product{
		ID: id(n), Name: fmt.Sprintf("%s %s %d", maker, c.thing, 100+n), Category: c.name, PriceCents: c.cents + int64(25*(n%37)), Model: c.model,
		Description: fmt.Sprintf("%s's %s in batch %d, made to order", maker, strings.ToLower(c.thing), 1+n/24),
	}}
	if n%uniqueNth == 0 {
		item.Stock = 5
		item.Description = "One of five ever made: " + item.Description
	}
	if m, ok := models.ByName(c.model); ok {
		for _, o := range m.Options {
			item.Options = append(item.Options, offer(o, o.Values))
		}
	}
	return item
}

func drawn(n int, rng *rand.Rand) Item {
	c := categories[n%len(categories)]
	maker, line, finish := pick(rng, makers), pick(rng, series), pick(rng, finishes)
	item := Item{Product: catalog.Product{
		ID: id(n), Name: fmt.Sprintf("%s %s %s %d", maker, line, c.thing, 100+n), Category: c.name, Model: c.model,
		PriceCents:  (c.cents*int64(60+rng.IntN(121))/100 + 99) / 100 * 100,
		Description: fmt.Sprintf("%s's %s of the %s line, %s, batch %d", maker, strings.ToLower(c.thing), line, finish, 1+rng.IntN(40)),
	}}
	switch kind := rng.IntN(100); {
	case kind < 4:
		item.Stock = 1
		item.Description = "The only one: " + item.Description
	case kind < 12:
		item.Stock = int64(2 + rng.IntN(11))
		item.Description = "Few are left: " + item.Description
	default:
		item.Stock = int64(200 + rng.IntN(plenty))
	}
	if m, ok := models.ByName(c.model); ok {
		for _, o := range m.Options {
			item.Options = append(item.Options, offer(o, some(o, rng)))
		}
	}
	return item
}

// some leaves out a fifth of the special parts, which are those that cost
// extra, and prices the others by up to a fifth off or on.
func some(o models.Option, rng *rand.Rand) []models.Value {
	var out []models.Value
	for _, v := range o.Values {
		if v.ExtraCents > 0 {
			if rng.IntN(5) == 0 {
				continue
			}
			v.ExtraCents = max(v.ExtraCents*int64(80+rng.IntN(41))/100/10*10, 10)
		}
		out = append(out, v)
	}
	return out
}

func offer(o models.Option, values []models.Value) catalog.Option {
	out := catalog.Option{Name: o.Name, Required: o.Required}
	for _, v := range values {
		out.Values = append(out.Values, catalog.Value{Name: v.Name, ExtraCents: v.ExtraCents})
	}
	return out
}

func pick(rng *rand.Rand, words []string) string { return words[rng.IntN(len(words))] }

func id(n int) string { return fmt.Sprintf("p-%04d", n) }

package assortment_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/assortment"
	"meshsim.dev/meshsim/fakeshop/configurator"
	"meshsim.dev/meshsim/fakeshop/models"
)

func digest(t *testing.T, items []assortment.Item) string {
	t.Helper()
	data, err := json.Marshal(items)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// A change of this digest is a change of the shop: runs before and after it
// cannot be compared product by product.
func TestTheSameSeedMakesTheSameShop(t *testing.T) {
	items := assortment.Make(assortment.Seed, assortment.Count)
	require.Equal(t, "24bcc25ce2d4deff", digest(t, items))
	require.Equal(t, digest(t, items), digest(t, assortment.Make(assortment.Seed, assortment.Count)))
	require.NotEqual(t, digest(t, items), digest(t, assortment.Make(1, assortment.Count)))
	require.Equal(t, digest(t, items[:assortment.Classics]), digest(t, assortment.Make(1, assortment.Classics)), "the classics know no seed")
	require.Equal(t, digest(t, items[:1000]), digest(t, assortment.Make(assortment.Seed, 1000)), "more products change none before them")
}

func TestTheAssortmentIsAShops(t *testing.T) {
	items := assortment.Make(assortment.Seed, assortment.Count)
	require.Len(t, items, 3000)
	names, categories := map[string]bool{}, map[string]int{}
	only, few := 0, 0
	for i, item := range items {
		require.False(t, names[item.Name], item.Name)
		names[item.Name] = true
		categories[item.Category]++
		require.Positive(t, item.PriceCents)
		require.Equal(t, item.Model != "", len(item.Options) > 0)
		if i > 0 {
			require.Less(t, items[i-1].ID, item.ID)
		}
		switch {
		case item.Stock == 1:
			only++
		case item.Stock <= 12:
			few++
		default:
			require.GreaterOrEqual(t, item.Stock, int64(200))
		}
	}
	require.Len(t, categories, 6)
	require.InDelta(t, 110, only, 40)
	require.InDelta(t, 220, few, 60)
	require.Equal(t, "Cedar Keyboard 340", items[239].Name)
	require.Equal(t, "One of five ever made: Cedar's keyboard in batch 11, made to order", items[239].Description)
	require.Equal(t, int64(5), items[239].Stock)
	require.Equal(t, int64(14900+25*(240%37)), items[239].PriceCents)
}

// Whatever a customer must choose among what a product offers, the workshop
// can make it, or says in words why not; and what customers have always chosen
// can be made of every product.
func TestWhatIsOfferedCanBeMade(t *testing.T) {
	always := map[string]map[string][]string{
		"keyboard": {"switches": {"linear", "tactile", "clicky"}, "keycaps": {"abs", "pbt"}, "layout": {"iso", "ansi", "ortho"}},
		"console":  {"shell": {"grey", "clear"}, "video": {"composite", "rgb", "hdmi"}},
		"handheld": {"screen": {"original", "ips"}, "battery": {"cells", "rechargeable"}},
	}
	for _, item := range assortment.Make(assortment.Seed, assortment.Count) {
		if item.Model == "" {
			continue
		}
		m, ok := models.ByName(item.Model)
		require.True(t, ok)
		offered := configurator.Offered(item.Product)
		made := 0
		var try func(i int, chosen map[string]string, classic bool)
		try = func(i int, chosen map[string]string, classic bool) {
			if i == len(offered) || !offered[i].Required {
				whole, _, wrong := m.Complete(offered, chosen)
				if wrong == nil {
					require.Len(t, whole, len(offered), item.ID)
					made++
				}
				require.False(t, wrong != nil && classic && item.ID <= "p-0240", "%s %v: %v", item.ID, chosen, wrong)
				return
			}
			for _, v := range offered[i].Values {
				chosen[offered[i].Name] = v.Name
				try(i+1, chosen, classic && slices.Contains(always[item.Model][offered[i].Name], v.Name))
			}
		}
		try(0, map[string]string{}, true)
		require.Positive(t, made, item.ID)
	}
}

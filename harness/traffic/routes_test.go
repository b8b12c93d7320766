package traffic

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/scenarios"
)

func TestEveryRouteOfAMixCanBeSent(t *testing.T) {
	for _, r := range scenarios.Routes() {
		if r.Proto == "grpc" {
			m, ok := methodFor(r.Name)
			require.True(t, ok, r.Name)
			require.Equal(t, r.Service, m.service)
			continue
		}
		for n := range uint64(200) {
			c, err := callFor(r.Name, draw(1, 0, n), nil)
			require.NoError(t, err)
			u, err := url.Parse("http://127.0.0.1" + c.path)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(u.Path, "/api/"), c.path)
			require.Equal(t, c.method == http.MethodPost, c.body != nil)
			require.Equal(t, r.Name == "order", c.orderID != "")
		}
	}
	_, err := callFor("shoplift", draw(1, 0, 0), nil)
	require.ErrorContains(t, err, `no HTTP route "shoplift"`)
}

func TestARequestIsAFunctionOfSeedAndNumber(t *testing.T) {
	for _, route := range []string{"browse", "search", "configure", "order", "customer", "recommend"} {
		one, err := callFor(route, draw(7, 0, 42), nil)
		require.NoError(t, err)
		again, err := callFor(route, draw(7, 0, 42), nil)
		require.NoError(t, err)
		require.Equal(t, one, again)
	}
	m, _ := methodFor("grpc-stock")
	require.True(t, proto.Equal(m.message(draw(7, 2, 9), nil), m.message(draw(7, 2, 9), nil)))
}

var (
	uuid      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	productOf = regexp.MustCompile(`^p-(\d{4})$`)
)

// number of a product that the shop knows.
func number(t *testing.T, id string) int {
	t.Helper()
	m := productOf.FindStringSubmatch(id)
	require.NotNil(t, m, id)
	n, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	require.True(t, n >= 1 && n <= 240, id)
	return n
}

func TestOrdersAreMostlyOfPlentifulItemsUnderIdsOfTheirOwn(t *testing.T) {
	const orders = 20_000
	seen, unique := map[string]bool{}, 0
	bought := map[int]bool{}
	for n := range uint64(orders) {
		c, err := callFor("order", draw(5000, 0, n), nil)
		require.NoError(t, err)
		var body struct {
			OrderID, CustomerID string
			Items               []struct {
				ProductID string
				Quantity  int
			}
		}
		require.NoError(t, json.Unmarshal(c.body, &body))
		require.Equal(t, c.orderID, body.OrderID)
		require.Regexp(t, uuid, body.OrderID)
		require.False(t, seen[body.OrderID])
		seen[body.OrderID] = true
		require.Regexp(t, `^c-0[0-5]\d\d$`, body.CustomerID)
		require.NotEmpty(t, body.Items)
		mine := map[string]bool{}
		for _, i := range body.Items {
			require.True(t, i.Quantity == 1 || i.Quantity == 2)
			require.False(t, mine[i.ProductID], "an item twice")
			mine[i.ProductID] = true
			n := number(t, i.ProductID)
			bought[n] = true
			if n%uniqueNth == 0 {
				require.Len(t, body.Items, 1)
				require.Equal(t, 1, i.Quantity)
				unique++
			}
		}
	}
	require.InDelta(t, orders*uniqueShare, unique, 4.5*math.Sqrt(orders*uniqueShare))
	require.Len(t, bought, products, "everything is bought now and then")
}

func TestConfigurationsFitTheirProductsButForAFew(t *testing.T) {
	// as the shop's catalogue has them, by a product's number modulo 6
	options := [3][]string{{"keycaps", "layout", "switches"}, {"shell", "video"}, {"battery", "screen"}}
	odd := 0
	for n := range uint64(5000) {
		c, err := callFor("configure", draw(5000, 0, n), nil)
		require.NoError(t, err)
		var body struct {
			ProductID string
			Options   map[string]string
		}
		require.NoError(t, json.Unmarshal(c.body, &body))
		kind := number(t, body.ProductID) % 6
		require.Less(t, kind, 3, "the others cannot be configured")
		if body.Options["colour"] != "" {
			odd++
			delete(body.Options, "colour")
		}
		require.Len(t, body.Options, len(options[kind]))
		for _, name := range options[kind] {
			require.NotEmpty(t, body.Options[name])
		}
	}
	require.InDelta(t, 100, odd, 45)
}

func TestTheMixDrawsByWeight(t *testing.T) {
	m, err := NewMix(map[string]int{"browse": 40, "search": 15, "order": 8, "never": 0})
	require.NoError(t, err)
	require.InDelta(t, 63, m.Total(), 0)
	const draws = 63_000
	got := map[string]int{}
	for n := range uint64(draws) {
		got[m.pick(draw(1, 0, n))]++
	}
	require.Len(t, got, 3)
	for route, weight := range map[string]float64{"browse": 40, "search": 15, "order": 8} {
		want := draws * weight / 63
		require.InDelta(t, want, got[route], 4.5*math.Sqrt(want), route)
	}
	require.Empty(t, Mix{}.pick(draw(1, 0, 0)))
	_, err = NewMix(map[string]int{"browse": -1})
	require.ErrorContains(t, err, "browse is -1")
}

func TestOutsideCallsNameProductsOfTheShop(t *testing.T) {
	get, _ := methodFor("grpc-get-product")
	require.Equal(t, shopapi.ProductCatalog_GetProduct_FullMethodName, "/"+get.name)
	stock, _ := methodFor("grpc-stock")
	require.Equal(t, shopapi.InventoryManagement_GetStock_FullMethodName, "/"+stock.name)
	for n := range uint64(500) {
		number(t, get.message(draw(1, 1, n), nil).(*shopapi.GetProductRequest).GetId())
		number(t, stock.message(draw(1, 2, n), nil).(*shopapi.GetStockRequest).GetProductId())
	}
}

func BenchmarkCall(b *testing.B) {
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		n++
		if _, err := callFor("order", draw(1, 0, n), nil); err != nil {
			b.Fatal(err)
		}
	}
}

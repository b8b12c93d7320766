package traffic

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// What the shop sells and whom it knows.
const (
	products  = 240
	uniqueNth = 40 // every so many products there is one of five ever made
	customers = 500
	pages     = 10
)

// How customers behave, as shares.
const (
	listShare   = 0.5  // of browsing: a page of the list instead of a product
	oddShare    = 0.02 // of configuring: choices that do not fit
	uniqueShare = 0.03 // of orders: something of which there are five
	strayShare  = 0.6  // of looking at products on a journey: another than the one it is about
)

// draw returns the randomness of request n of a stream: the same request for
// the same seed, whenever and by whomever it is made.
func draw(seed, stream, n uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed^mix64(stream+1), mix64(n)))
}

// call is one HTTP request to make.
type call struct {
	method  string
	path    string // with its query
	body    []byte
	orderID string
}

// callFor makes the HTTP request of a route. who makes it; nil is anybody.
func callFor(route string, rng *rand.Rand, who *visitor) (call, error) {
	switch route {
	case "browse":
		if rng.Float64() < listShare {
			return call{method: http.MethodGet, path: "/api/catalog/products?page=" + strconv.Itoa(1+rng.IntN(pages))}, nil
		}
		return call{method: http.MethodGet, path: "/api/catalog/products/" + who.looksAt(rng)}, nil
	case "search":
		words := []string{"keyboard", "console", "handheld", "keycap", "solder kit", "birch", "cedar keyboard", "five ever made"}
		return call{method: http.MethodGet, path: "/api/catalog/search?q=" + url.QueryEscape(oneOf(rng, words))}, nil
	case "customer":
		return call{method: http.MethodGet, path: "/api/customers/" + who.customerOr(rng)}, nil
	case "recommend":
		return call{method: http.MethodGet, path: "/api/recommendations?customer=" + who.customerOr(rng)}, nil
	case "configure":
		return configureCall(rng, who)
	case "order":
		return orderCall(rng, who)
	}
	return call{}, fmt.Errorf("there is no HTTP route %q", route)
}

// configurable draws a product that can be configured: products come in six
// kinds by turns, and the first three can.
func configurable(rng *rand.Rand) (number, kind int) {
	kind = rng.IntN(3)
	number = kind + 6*rng.IntN(products/6)
	if number == 0 {
		number = products
	}
	return number, kind
}

func configureCall(rng *rand.Rand, who *visitor) (call, error) {
	number, kind := configurable(rng)
	if who != nil {
		number, kind = who.product, who.kind
	}
	options := [3]map[string]string{
		{"switches": oneOf(rng, []string{"linear", "tactile", "clicky"}), "keycaps": oneOf(rng, []string{"abs", "pbt"}), "layout": oneOf(rng, []string{"iso", "ansi", "ortho"})},
		{"shell": oneOf(rng, []string{"grey", "clear"}), "video": oneOf(rng, []string{"composite", "rgb", "hdmi"})},
		{"screen": oneOf(rng, []string{"original", "ips"}), "battery": oneOf(rng, []string{"cells", "rechargeable"})},
	}[kind]
	if rng.Float64() < oddShare {
		options["colour"] = "invisible"
	}
	return post("/api/configurations", "", map[string]any{"productId": productID(number), "options": options})
}

func orderCall(rng *rand.Rand, who *visitor) (call, error) {
	id := newOrderID(rng)
	type item struct {
		ProductID string `json:"productId"`
		Quantity  int    `json:"quantity"`
	}
	var items []item
	if rng.Float64() < uniqueShare {
		items = []item{{productID(uniqueNth * (1 + rng.IntN(products/uniqueNth))), 1}}
	} else {
		first := plentifulProduct(rng)
		if who != nil {
			first = who.product
		}
		items = []item{{productID(first), 1 + rng.IntN(2)}}
		if second := plentifulProduct(rng); rng.Float64() < 0.3 && second != first {
			items = append(items, item{productID(second), 1})
		}
	}
	return post("/api/orders", id, map[string]any{"orderId": id, "customerId": who.customerOr(rng), "items": items})
}

func post(path, orderID string, body any) (call, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("encode the body for %s: %w", path, err)
	}
	return call{method: http.MethodPost, path: path, body: data, orderID: orderID}, nil
}

// newOrderID has the form of a random UUID, and comes from the seed.
func newOrderID(rng *rand.Rand) string {
	high, low := rng.Uint64(), rng.Uint64()
	high = high&^(0xf<<12) | 4<<12
	low = low&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0xffff, low>>48, low&(1<<48-1))
}

// customerOr is the visitor's customer, or anybody.
func (v *visitor) customerOr(rng *rand.Rand) string {
	if v == nil {
		return anyCustomer(rng)
	}
	return v.customer
}

// looksAt is a product that the visitor looks at: the one that the journey is
// about, or one beside it.
func (v *visitor) looksAt(rng *rand.Rand) string {
	if v == nil || rng.Float64() < strayShare {
		return anyProduct(rng)
	}
	return productID(v.product)
}

func anyProduct(rng *rand.Rand) string { return productID(1 + rng.IntN(products)) }

func plentifulProduct(rng *rand.Rand) int {
	n := rng.IntN(products - products/uniqueNth) // count only the plentiful ones …
	return n + n/(uniqueNth-1) + 1               // … and step over the others
}

func anyCustomer(rng *rand.Rand) string { return fmt.Sprintf("c-%04d", 1+rng.IntN(customers)) }

func productID(n int) string { return fmt.Sprintf("p-%04d", n) }

func oneOf(rng *rand.Rand, words []string) string { return words[rng.IntN(len(words))] }

// method is a gRPC method that outside clients call.
type method struct {
	name    string // package.Service/Method
	service string // the service behind it, for failures that name no hop
	message func(*rand.Rand, *visitor) proto.Message
}

// methodFor returns the gRPC method of a route.
func methodFor(route string) (method, bool) {
	switch route {
	case "grpc-get-product":
		return method{"shop.v1.ProductCatalog/GetProduct", "product-catalog", func(rng *rand.Rand, who *visitor) proto.Message {
			return &shopapi.GetProductRequest{Id: who.looksAt(rng)}
		}}, true
	case "grpc-stock":
		return method{"shop.v1.InventoryManagement/GetStock", "inventory-management", func(rng *rand.Rand, who *visitor) proto.Message {
			return &shopapi.GetStockRequest{ProductId: who.looksAt(rng)}
		}}, true
	}
	return directMethod(route)
}

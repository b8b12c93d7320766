package traffic

import (
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/scenarios"
)

// directMethod returns the gRPC method of a call that passes by the load
// balancer; scenarios.DirectRoutes has them all.
func directMethod(route string) (method, bool) {
	known, ok := scenarios.FindRoute(route)
	if !ok {
		return method{}, false
	}
	m := method{service: known.Service}
	switch route {
	case "product-catalog/GetProduct":
		m.name, m.message = "shop.v1.ProductCatalog/GetProduct", func(rng *rand.Rand, _ *visitor) proto.Message {
			return &shopapi.GetProductRequest{Id: anyProduct(rng)}
		}
	case "inventory-management/GetStock":
		m.name, m.message = "shop.v1.InventoryManagement/GetStock", func(rng *rand.Rand, _ *visitor) proto.Message {
			return &shopapi.GetStockRequest{ProductId: anyProduct(rng)}
		}
	case "customer-profile/GetCustomer":
		m.name, m.message = "shop.v1.CustomerProfile/GetCustomer", func(rng *rand.Rand, _ *visitor) proto.Message {
			return &shopapi.GetCustomerRequest{Id: anyCustomer(rng)}
		}
	case "recommendation-service/Recommend":
		m.name, m.message = "shop.v1.RecommendationService/Recommend", func(rng *rand.Rand, _ *visitor) proto.Message {
			return &shopapi.RecommendRequest{CustomerId: anyCustomer(rng)}
		}
	case "recommendation-service/Related":
		m.name, m.message = "shop.v1.RecommendationService/Related", func(rng *rand.Rand, _ *visitor) proto.Message {
			return &shopapi.RelatedRequest{ProductId: anyProduct(rng)}
		}
	default:
		return method{}, false
	}
	return m, true
}

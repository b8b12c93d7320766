package orders

import (
	"context"
	"net/http"

	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"POST /api/orders": func(r *http.Request) (int, any, error) {
			wanted, err := decode(r)
			if err != nil {
				return 0, nil, err
			}
			o, created, err := s.Create(r.Context(), wanted)
			if created {
				return http.StatusCreated, o, err
			}
			return http.StatusOK, o, err
		},
		"GET /api/orders/{id}": func(r *http.Request) (int, any, error) {
			o, err := s.Order(r.Context(), r.PathValue("id"))
			return http.StatusOK, o, err
		},
	}
}

// decode reads an order as clients write it.
func decode(r *http.Request) (*Order, error) {
	var body struct {
		OrderID    string `json:"orderId"`
		CustomerID string `json:"customerId"`
		Items      []struct {
			ProductID string `json:"productId"`
			Quantity  int    `json:"quantity"`
		} `json:"items"`
		ConfigurationID string `json:"configurationId"`
	}
	if err := rest.Decode(r, &body); err != nil {
		return nil, err
	}
	o := &Order{ID: body.OrderID, CustomerID: body.CustomerID, ConfigurationID: body.ConfigurationID}
	for _, i := range body.Items {
		o.Items = append(o.Items, Item{ProductID: i.ProductID, Quantity: i.Quantity})
	}
	return o, nil
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.OrderProcessingServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedOrderProcessingServer
	s *Service
}

func (a api) CreateOrder(ctx context.Context, req *shopapi.CreateOrderRequest) (*shopapi.CreateOrderResponse, error) {
	wanted := &Order{ID: req.GetOrderId(), CustomerID: req.GetCustomerId(), ConfigurationID: req.GetConfigurationId()}
	for _, i := range req.GetItems() {
		wanted.Items = append(wanted.Items, Item{ProductID: i.GetProductId(), Quantity: int(i.GetQuantity())})
	}
	o, created, err := a.s.Create(ctx, wanted)
	if err != nil {
		return nil, err
	}
	return &shopapi.CreateOrderResponse{Order: toAPI(o), Created: created}, nil
}

func (a api) GetOrder(ctx context.Context, req *shopapi.GetOrderRequest) (*shopapi.GetOrderResponse, error) {
	o, err := a.s.Order(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetOrderResponse{Order: toAPI(o)}, nil
}

func (a api) GetStatuses(ctx context.Context, req *shopapi.GetStatusesRequest) (*shopapi.GetStatusesResponse, error) {
	statuses, err := a.s.Statuses(ctx, req.GetIds())
	if err != nil {
		return nil, err
	}
	out := &shopapi.GetStatusesResponse{Statuses: make(map[string]string, len(statuses))}
	for id, status := range statuses {
		out.Statuses[id] = string(status)
	}
	return out, nil
}

func toAPI(o *Order) *shopapi.Order {
	return &shopapi.Order{
		Id: o.ID, CustomerId: o.CustomerID, Status: string(o.Status), TotalCents: o.TotalCents,
		Items: itemsToAPI(o.Items), ConfigurationId: o.ConfigurationID, CreatedUnixMs: o.CreatedAt.UnixMilli(),
		Reason: string(o.Reason),
	}
}

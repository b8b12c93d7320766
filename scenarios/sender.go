package scenarios

import "go.yaml.in/yaml/v3"

// How a sender treats its connections.
const (
	KeepAlive      = "keep-alive" // kept and used again, as browsers do
	NewConnections = "new"        // one for each request, as careless clients do
	HTTP2          = "http2"      // few, with many requests on each at a time; without TLS
)

// Sender is how requests are sent.
type Sender struct {
	// Connections is one of the words above, of REST requests; gRPC has one
	// HTTP/2 connection for each method.
	Connections string
	// MaxConnections bounds them; 0 for no bound. A request that finds none free
	// waits, which makes it late, and is not sent at all when it waits for longer
	// than the timeout. With HTTP2 it is how many there are, and 0 is one.
	MaxConnections int
}

func (r *reader) sender(n *yaml.Node, s *Sender) {
	r.mapping(n, "sender", map[string]field{
		"connections": func(n *yaml.Node) {
			r.oneOf("connections", []string{KeepAlive, NewConnections, HTTP2}, &s.Connections)(n)
			if s.Connections == HTTP2 {
				r.fail(n, "connections: http2 needs an edge that speaks it without TLS, and a load balancer's HTTP listener speaks HTTP/1.1 only "+
					"(its gRPC listener has HTTP/2 anyway): take keep-alive or new")
			}
		},
		"maxConnections": r.integer("maxConnections", 0, 60_000, &s.MaxConnections),
	})
}

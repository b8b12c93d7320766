package shopapi

// Metadata of answers: HTTP headers at the edge, trailers in gRPC.
const (
	// PodHeader names the pod that answered.
	PodHeader = "x-shop-pod"
	// VersionHeader names its version: v1, v2, ….
	VersionHeader = "x-shop-version"
	// HopsHeader tells the request's whole way: see package hops.
	HopsHeader = "x-shop-hops"
	// AttemptHeader says, on the answer to a gRPC call that was sent again, which
	// attempt it was: 2, 3, ….
	AttemptHeader = "x-shop-attempt"
	// HopHeader names, on a failed gRPC answer, the way to where it failed:
	// "order-processing>inventory-management>postgres".
	HopHeader = "x-shop-hop"
	// FailedPodHeader names, on a failed gRPC answer, the last pod on that way
	// that still answered.
	FailedPodHeader = "x-shop-failed-pod"
	// ReasonHeader gives the machine-readable reason of a refused or failed
	// gRPC answer, such as "out_of_stock".
	ReasonHeader = "x-shop-reason"
)

// Package wire follows the TCP flows that pass through a node and tells what
// each of them carries: TLS or something readable. It looks at packets as they
// are on the way between pods, so it believes no proxy. What it keeps of a
// payload is its kind, a server's name, and whether strings that the traffic
// has planted were to be read in it; never the payload.
//
// A packet passes a node's network more than once: it comes in by one link and
// goes out by another. Bytes are told apart by their sequence numbers, so that
// they count once. What stays inside a pod is not on the wire and not seen.
package wire

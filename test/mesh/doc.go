// Package mesh holds the conformance suite: black-box cases on a real kind
// cluster, a table of rows that a mesh must keep whether it is Linkerd or its
// stand-in. They are built with the tag conformance and run by
// `make mesh-conformance MESH=fakemesh|linkerd`.
package mesh

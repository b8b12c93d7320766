// Package mesh soaks the stand-in's proxies, under the race detector where make
// soak-mesh runs it: traffic of all protocols while pods are replaced,
// certificates renewed and rules changed. No request may fail; one TCP connection
// and one gRPC stream, opened at the beginning, must last to the end; and nothing
// may be left of what was used.
package mesh

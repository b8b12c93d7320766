// Package meshapi is the protocol between the stand-in's proxies and its
// control plane.
package meshapi

//go:generate ./generate.sh

// Package footprint keeps small what a process has of its program in memory. The
// start of a Go program runs through all of its packages, and every page that it
// touches stays resident, with those beside it, though most are never needed
// again: of a program that has Kubernetes' and Helm's clients in it, tens of MiB.
package footprint

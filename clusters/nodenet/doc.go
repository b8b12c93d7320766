// Package nodenet gives the pods of a cluster their network: it is the CNI
// daemon of the node images that meshsim builds itself. On its node it
//
//   - writes the CNI configuration for the node's own pod range,
//   - keeps one route to each other node's pod range through that node, and
//   - masquerades what pods send to addresses outside the cluster's pod range.
//
// It needs nodes that reach each other directly (one bridge, as kind's are),
// and IPv4. It does not enforce NetworkPolicy.
package nodenet

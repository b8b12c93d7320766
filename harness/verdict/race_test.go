//go:build race

package verdict

// The race detector makes a simulation ten times as slow and finds in few runs
// what it finds in many; the shares are asserted all the same, with more room for
// chance.
const raced = true

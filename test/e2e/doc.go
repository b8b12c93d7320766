// Package e2e holds the rehearsals on a real kind cluster. They are built with
// the tag e2e and run by `make e2e`.
package e2e

package verdict

import (
	"fmt"
	"sort"
	"strings"

	"meshsim.dev/meshsim/results"
)

// upstream is what Vault denied, and when the mesh's injector could not be
// called: it may lie behind certificates that do not come and pods without a
// proxy, long before a request fails by them. Both are by time.
type upstream struct{ denied, passed []results.Event }

func (u *upstream) take(e results.Event) {
	switch state := e.Fields[results.FieldState]; {
	case e.Kind == results.Vault && state == results.StateDenied:
		u.denied = append(u.denied, e)
	case e.Kind == results.Webhook && state == results.StateFailedOpen && strings.Contains(e.Name, "injector"):
		u.passed = append(u.passed, e)
	}
}

// maxUpstream is how many of them are told, the last ones.
const maxUpstream = 2

// before tells what came before an instant that may lie behind a failure of the
// kind given.
func (u *upstream) before(kind string, instant int64) []string {
	var of []results.Event
	words := vaultWords
	switch kind {
	case causeCertificate:
		of = u.denied
	case causeNoProxy:
		of, words = u.passed, func(e results.Event) string {
			return fmt.Sprintf("webhook %s %s, by %s", e.Name, e.Detail, at(e.At))
		}
	}
	n := sort.Search(len(of), func(i int) bool { return of[i].At > instant })
	var told []string
	for _, e := range of[max(0, n-maxUpstream):n] {
		told = append(told, words(e))
	}
	return told
}

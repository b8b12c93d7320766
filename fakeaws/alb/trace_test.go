package alb

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTracesAreBegunOrContinued(t *testing.T) {
	now := time.Unix(0x67891233, 0)
	const id = `1-67891233-[0-9a-f]{24}`
	for _, c := range []struct{ name, given, want string }{
		{"a request without a trace begins one", "", `^Root=` + id + `$`},
		{"a trace is continued", "Root=1-a-b", `^Self=` + id + `;Root=1-a-b$`},
		{"an application's own fields are kept", "Root=1-a-b;CalledFrom=app", `^Self=` + id + `;Root=1-a-b;CalledFrom=app$`},
		{"another load balancer's Self is replaced", "Self=1-x-y;Root=1-a-b", `^Self=` + id + `;Root=1-a-b$`},
		{"fields without a root get one", "CalledFrom=app", `^Root=` + id + `;CalledFrom=app$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Regexp(t, c.want, traceFor(c.given, now))
		})
	}
}

func FuzzTrace(f *testing.F) {
	f.Add("Self=1-x-y;Root=1-a-b;k=v")
	f.Add(";;=;Root")
	f.Fuzz(func(t *testing.T, given string) {
		got := traceFor(given, time.Unix(1, 0))
		if !strings.HasPrefix(got, "Self=1-00000001-") && !strings.HasPrefix(got, "Root=1-00000001-") {
			t.Fatal(got)
		}
		for i, field := range strings.Split(got, ";") {
			if name, _, _ := strings.Cut(strings.TrimSpace(field), "="); i > 0 && name == "Self" {
				t.Fatal(got)
			}
		}
	})
}

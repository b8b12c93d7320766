package alb

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTargetGroupAttributesAreRead(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       attributes
	}{
		{"the defaults are AWS's", "", attributes{DeregistrationDelay: 300 * time.Second, CrossZone: true}},
		{"all at once", "deregistration_delay.timeout_seconds=15, slow_start.duration_seconds=30,load_balancing.cross_zone.enabled=false",
			attributes{DeregistrationDelay: 15 * time.Second, SlowStart: 30 * time.Second}},
		{"no delay at all", "deregistration_delay.timeout_seconds=0", attributes{CrossZone: true}},
		{"least outstanding requests", "load_balancing.algorithm.type=least_outstanding_requests",
			attributes{DeregistrationDelay: 300 * time.Second, CrossZone: true, LeastOutstanding: true}},
		{"what AWS's defaults say", "stickiness.enabled=false,load_balancing.algorithm.type=round_robin,load_balancing.cross_zone.enabled=use_load_balancer_configuration,slow_start.duration_seconds=0",
			attributes{DeregistrationDelay: 300 * time.Second, CrossZone: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := annotations{ingress: map[string]string{annotation + "target-group-attributes": c.text}}
			require.Equal(t, c.want, read.attributes())
			require.Empty(t, read.problems)
		})
	}
	for _, c := range []struct{ name, text, want string }{
		{"no pair", "deregistration_delay", `"deregistration_delay" is not key=value`},
		{"a delay beyond AWS's", "deregistration_delay.timeout_seconds=3601", `"3601" is not a number from 0 to 3600`},
		{"a word for a number", "slow_start.duration_seconds=long", "slow_start.duration_seconds"},
		{"sticky sessions", "stickiness.enabled=true", `stickiness.enabled: "true" is not served`},
		{"random weights", "load_balancing.algorithm.type=weighted_random", `"weighted_random" is not served`},
		{"an attribute that nobody knows", "colour=red", "colour: is not served"},
		{"slow start with least outstanding requests", "slow_start.duration_seconds=30,load_balancing.algorithm.type=least_outstanding_requests", "slow start does not go with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := annotations{ingress: map[string]string{annotation + "target-group-attributes": c.text}}
			read.attributes()
			require.ErrorContains(t, errors.Join(read.problems...), "target-group-attributes: ")
			require.ErrorContains(t, errors.Join(read.problems...), c.want)
		})
	}
}

func TestLoadBalancerAttributesAreRead(t *testing.T) {
	of := func(text string) (settings, error) {
		read := annotations{ingress: map[string]string{annotation + "load-balancer-attributes": text}}
		got := read.settings(defaultSettings)
		return got, errors.Join(read.problems...)
	}
	got, err := of("")
	require.NoError(t, err)
	require.Equal(t, settings{Idle: 60 * time.Second, KeepAlive: 3600 * time.Second}, got)
	got, err = of("idle_timeout.timeout_seconds=600,client_keep_alive.seconds=120,access_logs.s3.enabled=true,access_logs.s3.bucket=b,routing.http2.enabled=true")
	require.NoError(t, err)
	require.Equal(t, settings{Idle: 600 * time.Second, KeepAlive: 120 * time.Second}, got)
	for _, bad := range []string{"idle_timeout.timeout_seconds=0", "client_keep_alive.seconds=10", "waf.fail_open.enabled=true", "routing.http.xff_header_processing.mode=remove", "x"} {
		_, err := of(bad)
		require.ErrorContains(t, err, "load-balancer-attributes: ", bad)
	}
}

func FuzzPairs(f *testing.F) {
	for _, s := range []string{"a=b", "a=b,c=d=e", " a = b ,, ", "=", "a", "a=\x00,b=\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pairs, err := parsePairs(s)
		if err != nil {
			return
		}
		for key, value := range pairs {
			if key == "" || strings.ContainsRune(key, '=') || strings.ContainsRune(key, ',') || strings.ContainsRune(value, ',') {
				t.Fatalf("%q: %q=%q", s, key, value)
			}
		}
		read := annotations{ingress: map[string]string{annotation + "target-group-attributes": s, annotation + "load-balancer-attributes": s}}
		if a := read.attributes(); a.DeregistrationDelay < 0 || a.DeregistrationDelay > time.Hour {
			t.Fatal(a)
		}
		read.settings(defaultSettings)
	})
}

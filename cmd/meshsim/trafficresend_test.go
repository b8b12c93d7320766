package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
)

// door is a load balancer that keeps what it was asked.
type door struct {
	mu    sync.Mutex
	asked []string
}

func openDoor(t *testing.T) (*door, string) {
	t.Helper()
	d := &door{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		d.asked = append(d.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
		d.mu.Unlock()
		w.Header().Set("x-shop-pod", "order-processing-7-a")
		w.Header().Set("x-shop-hops", "~7-a@worker/v1:1500(inventory-management:100:900!14*2)")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"error":"sold out","code":"out_of_stock"}`)
	}))
	t.Cleanup(server.Close)
	return d, strings.TrimPrefix(server.URL, "http://")
}

// aRun makes a run folder whose third request was an order, and returns its
// parent and that order's id.
func aRun(t *testing.T, addr string) (runs, orderID string) {
	t.Helper()
	runs = t.TempDir()
	folder, err := results.Create(runs, "20260101T000000Z-demo")
	require.NoError(t, err)
	run := results.Run{ID: folder.ID, Seed: 7, Traffic: results.Traffic{Mix: map[string]int{"order": 1}, Timeout: 2 * time.Second, HTTP: addr}}
	require.NoError(t, folder.WriteRun(run))
	script, err := traffic.ScriptOf(run)
	require.NoError(t, err)
	order, err := script.Prepare(2, "order")
	require.NoError(t, err)
	require.NoError(t, folder.AddRequest(results.Request{
		Seq: 2, Scheduled: 1_500_000_000, Sent: 1_500_100_000, Done: 1_512_000_000, Phase: "inject", Route: "order", Proto: "http",
		Status: 503, Outcome: results.Failed, Class: "http-503", Hop: "order-processing>inventory-management", OrderID: order.OrderID,
	}))
	require.NoError(t, folder.Close())
	return runs, order.OrderID
}

func TestARequestIsSentOnceMore(t *testing.T) {
	d, addr := openDoor(t)
	runs, order := aRun(t, addr)
	code, stdout, stderr := run(t, "traffic", "resend", "latest", order, "0", "--runs", runs)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "request 2: order, POST /api/orders\n")
	require.Contains(t, stdout, "order  "+order+": the id it had in the run, so it is the same order and not a second one")
	require.Contains(t, stdout, "then   at 1.5s in inject: failed, http-503, order-processing>inventory-management, status 503 after 12ms\n")
	require.Contains(t, stdout, "now    rejected, status 409, by order-processing-7-a (sold out) after ")
	require.Contains(t, stdout, "way    order-processing by order-processing-7-a on worker, v1: 1.5ms\n")
	require.Contains(t, stdout, "way      inventory-management: 900µs, Unavailable, 2 attempts\n")
	require.Contains(t, stdout, "request 0: order, ")
	require.Contains(t, stdout, "then   not in the run's record")
	require.Len(t, d.asked, 2)
	require.Contains(t, d.asked[0], `POST /api/orders {"customerId":"`)
	require.Contains(t, d.asked[0], `"orderId":"`+order+`"`)
	require.NotContains(t, d.asked[1], order)

	code, _, stderr = run(t, "traffic", "resend", filepath.Join(runs, "20260101T000000Z-demo"), "2")
	require.Equal(t, 0, code, stderr)
	require.Equal(t, d.asked[0], d.asked[2], "the very same request, by its index and by its id")
}

func TestADryRunSendsNothing(t *testing.T) {
	d, addr := openDoor(t)
	runs, order := aRun(t, addr)
	code, stdout, stderr := run(t, "traffic", "resend", "latest", "2", "--runs", runs, "--dry-run")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "again  curl -i -X POST -H 'Content-Type: application/json' -d '{\"customerId\":")
	require.Contains(t, stdout, "'http://"+addr+"/api/orders'\n")
	code, stdout, stderr = run(t, "traffic", "resend", "20260101T000000Z-demo", "2", "--runs", runs, "--dry-run", "--json")
	require.Equal(t, 0, code, stderr)
	var all []resent
	require.NoError(t, json.Unmarshal([]byte(stdout), &all))
	require.Equal(t, order, all[0].Request.OrderID)
	require.Equal(t, "http-503", all[0].Then.Class)
	require.Nil(t, all[0].Now)
	require.Empty(t, d.asked)
}

func TestWhatCannotBeSentAgainIsRefused(t *testing.T) {
	_, addr := openDoor(t)
	runs, _ := aRun(t, addr)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no such run":        {[]string{"2025", "1"}, "is not a run folder"},
		"no such order":      {[]string{"latest", "0b0e"}, "the run has no order 0b0e"},
		"another machine":    {[]string{"latest", "1", "--http", "shop.example:80"}, "traffic goes to 127.0.0.1 only"},
		"nothing to send":    {[]string{"latest"}, "requires at least 2 arg"},
		"a negative request": {[]string{"latest", "--", "-1"}, "the run has no order -1"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := run(t, append([]string{"traffic", "resend", "--runs", runs}, c.args...)...)
			require.Equal(t, exitInvalid, code)
			require.Contains(t, stderr, c.want)
		})
	}
	runs, _ = aRun(t, "")
	code, _, stderr := run(t, "traffic", "resend", "latest", "1", "--runs", runs)
	require.Equal(t, exitInvalid, code)
	require.Contains(t, stderr, "does not say where its load balancer was: give --http")
}

func TestTheMachineIsCalibratedForAScenario(t *testing.T) {
	scenario := func(rate string) string {
		path := filepath.Join(t.TempDir(), "x.yaml")
		require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: x}
spec:
  traffic: {shape: {constant: %s}}
  phases: [{name: a, scale: 2}]
  budgets: [failed requests = 0]
`, rate), 0o600))
		return path
	}
	var c results.Calibration
	code, stdout, stderr := run(t, "traffic", "calibrate", scenario("1"), "--json")
	require.NoError(t, json.Unmarshal([]byte(stdout), &c))
	require.Equal(t, 2.0, c.Wanted, "at the phase's scale")
	if c.Held >= c.Wanted {
		require.Equal(t, 0, code, stderr)
	} else { // a machine that other work has all of
		require.Equal(t, exitEnvironment, code, stderr)
	}
	_, stdout, stderr = run(t, "traffic", "calibrate", scenario("1"))
	require.Contains(t, stdout, "A request to a server that does nothing, at 200/s: p50 ", stderr)
	require.Contains(t, stdout, "LATE BY P50")
	code, stdout, stderr = run(t, "traffic", "calibrate", scenario("500000"), "--json")
	require.Equal(t, exitEnvironment, code, stderr)
	require.Contains(t, stderr, "the traffic reaches 1000000 requests a second, and this machine sends at most ")
	c = results.Calibration{}
	require.NoError(t, json.Unmarshal([]byte(stdout), &c))
	require.Equal(t, 1e6, c.Wanted)
	require.NotEmpty(t, c.Trials)
}

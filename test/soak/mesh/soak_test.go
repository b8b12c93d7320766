package mesh

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var (
	length  = flag.Duration("soak", 8*time.Second, "how long there is traffic")
	renewal = flag.Duration("renew", 5*time.Second, "how often each proxy renews its certificate")
)

// changePolicy changes the rules of all proxies that run.
func (c *cluster) changePolicy(round int) {
	all := rules()
	c.mesh.SetRules(all[round%len(all)])
}

// flap takes an endpoint away that is as good as ever, and gives it back.
func (c *cluster) flap(p *pod) {
	c.remove(p)
	time.Sleep(leaves)
	c.add(p)
}

const (
	pauses = 500 * time.Millisecond // between two changes
	// slack are the goroutines that a proxy may have got for good: watches of
	// the addresses that it knows by now, connections to its application.
	slack = 20
	// settles is longer than idle connections between proxies are kept.
	settles = 2 * time.Minute
)

func TestNothingFailsAndNothingLeaksWhileEverythingChanges(t *testing.T) {
	defer goleak.VerifyNone(t)
	socketsBefore := sockets(t)
	c := newCluster(t, *renewal)
	// One pod of each side sees it all from beginning to end.
	server, client := c.server(), c.client()
	c.add(server)
	goroutinesBefore := runtime.NumGoroutine()
	others := []*pod{c.server(), c.server()}
	for _, p := range others {
		c.add(p)
	}
	b := newBook()
	always := c.start(client, b)
	steady := c.last(client, server, b)
	guest := c.client()
	visits := c.start(guest, b)
	begin := time.Now()
	for round := 0; time.Since(begin) < *length; round++ {
		c.changePolicy(round)
		others[round%2] = c.replace(others[round%2])
		switch round % 3 {
		case 1:
			c.flap(server)
		case 2:
			visits.end()
			c.end(guest)
			guest = c.client()
			visits = c.start(guest, b)
		}
		time.Sleep(pauses)
		if round%20 == 0 {
			t.Logf("%s: %d requests, %d pods so far, %d goroutines, %d sockets", time.Since(begin).Round(time.Second),
				b.sent.Load(), c.started, runtime.NumGoroutine(), sockets(t))
		}
	}
	took := time.Since(begin)
	steady.end(t, took)
	always.end()
	visits.end()
	c.end(guest)
	for _, p := range others {
		c.remove(p)
		c.end(p)
	}
	c.ending.Wait()
	t.Logf("%s: %d requests, %d pods", took.Round(time.Second), b.sent.Load(), c.started)
	b.verify(t, int64(took.Seconds()*20))
	for _, p := range []*pod{server, client} {
		renewals := number(t, p.metrics(t), "identity_cert_refresh_count")
		require.GreaterOrEqual(t, renewals, max(2, took.Seconds()/renewal.Seconds()/2))
	}
	require.Equal(t, map[string]bool{
		"all-authenticated": true, "clients": true, "orders": true, "calls": true, "cluster-unauthenticated": true,
	}, server.judge(t), "what let requests in, one set of rules after another")
	if *length > settles/2 {
		require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutinesBefore+slack }, settles, time.Second,
			"the pods that saw it all keep more than they began with")
	}
	c.remove(server)
	c.end(server)
	c.end(client)
	c.mesh.Close()
	require.Eventually(t, func() bool { return sockets(t) == socketsBefore }, 10*time.Second, 50*time.Millisecond, "sockets are left")
}

// sockets counts those that this process has open.
func sockets(t *testing.T) int {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	n := 0
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

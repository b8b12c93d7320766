//go:build postgres

// The whole shop as eight processes on a real PostgreSQL:
//
//	go test -tags postgres ./fakeshop/cmd/fakeshop
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// TestMain makes the test's own program a service when it is asked to be one.
func TestMain(m *testing.M) {
	if os.Getenv("SHOP_TEST_SERVE") != "" {
		os.Args = []string{"fakeshop", "serve", os.Getenv("SHOP_TEST_SERVE")}
		main()
	}
	if os.Getenv("SHOP_TEST_ROTATE") != "" {
		os.Args = []string{"fakeshop", "rotate", "--now"}
		main()
	}
	os.Exit(m.Run())
}

// wholeShop is the eight services as processes.
type wholeShop struct {
	t    testing.TB
	env  []string
	http map[string]string // REST addresses
	own  map[string][]string

	mu    sync.Mutex
	procs map[string]*exec.Cmd
	logs  map[string]*bytes.Buffer
}

func openShop(t testing.TB, pg *shoptest.Postgres, more ...string) *wholeShop {
	t.Helper()
	s := &wholeShop{t: t, http: map[string]string{}, own: map[string][]string{}, procs: map[string]*exec.Cmd{}, logs: map[string]*bytes.Buffer{}}
	var targets []string
	for _, name := range serviceNames() {
		h, g := freePort(t), freePort(t)
		s.http[name] = h
		targets = append(targets, name+"="+g)
		s.own[name] = []string{"SHOP_TEST_SERVE=" + name, "SHOP_POD=" + name + "-0", "SHOP_NODE=here", "SHOP_HTTP=" + h, "SHOP_GRPC=" + g,
			"SHOP_GRPC_EDGE=" + freePort(t), "SHOP_ADMIN=" + freePort(t)}
	}
	s.env = append(os.Environ(), "SHOP_TARGETS="+strings.Join(targets, ","), "SHOP_DRAIN=200ms", "SHOP_SECRETS_DIR="+pg.SecretsDir,
		"SHOP_DB_HOST="+pg.Host, "SHOP_DB_PORT="+strconv.Itoa(int(pg.Port)))
	s.env = append(s.env, more...)
	for _, name := range serviceNames() {
		s.start(name)
	}
	t.Cleanup(func() {
		for _, name := range serviceNames() {
			s.stop(name, syscall.SIGKILL)
		}
		if t.Failed() {
			for name, log := range s.logs {
				t.Logf("%s:\n%s", name, log.String())
			}
		}
	})
	for _, name := range serviceNames() {
		s.waitReady(name)
	}
	return s
}

// freePort is one that no outgoing connection is given while it is free: its
// service must find it again after a restart.
func freePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			require.NoError(t, l.Close())
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (s *wholeShop) start(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[name] == nil {
		s.logs[name] = &bytes.Buffer{}
	}
	c := exec.Command(os.Args[0])
	c.Env, c.Stderr = append(s.env, s.own[name]...), s.logs[name]
	if err := c.Start(); err != nil {
		s.t.Error(err)
		return
	}
	s.procs[name] = c
}

// stop ends a service by a signal and returns its exit error.
func (s *wholeShop) stop(name string, signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.procs[name]
	if c == nil {
		return nil
	}
	delete(s.procs, name)
	_ = c.Process.Signal(signal) // one that is gone needs none
	return c.Wait()
}

func (s *wholeShop) waitReady(name string) {
	s.t.Helper()
	admin := strings.TrimPrefix(s.own[name][6], "SHOP_ADMIN=")
	require.Eventually(s.t, func() bool {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == 200
	}, 20*time.Second, 20*time.Millisecond, name)
}

// do returns the status of an answer, 0 when there was none, and its JSON.
func (s *wholeShop) do(method, service, path, body string) (int, map[string]any) {
	req, err := http.NewRequest(method, "http://"+s.http[service]+path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0, nil
	}
	resp, err := (&http.Client{Timeout: 6 * time.Second}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		s.t.Errorf("%s %s: %s", method, path, data)
	}
	return resp.StatusCode, out
}

func startPostgres(t testing.TB) *shoptest.Postgres {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := shoptest.StartPostgres(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop()) })
	return pg
}

func TestTheWholeShopAnswersAndEndsInPeace(t *testing.T) {
	s := openShop(t, startPostgres(t))
	cases := []struct {
		method, service, path, body string
		status                      int
	}{
		{"GET", "product-catalog", "/api/catalog/products?page=2", "", 200},
		{"GET", "product-catalog", "/api/catalog/products/p-0240", "", 200},
		{"GET", "product-catalog", "/api/catalog/search?q=keyboard", "", 200},
		{"GET", "inventory-management", "/api/inventory/p-0040", "", 200},
		{"GET", "customer-profile", "/api/customers/c-0500", "", 200},
		{"GET", "recommendation-service", "/api/recommendations?customer=c-0001", "", 200},
		{"POST", "analytics-service", "/api/analytics/events", `{"kind":"view"}`, 202},
		{"POST", "configuration-engine", "/api/configurations", `{"productId":"p-0006","options":{"switches":"linear","keycaps":"abs","layout":"iso"}}`, 201},
		{"POST", "order-processing", "/api/orders", `{"orderId":"o-1","customerId":"c-0001","items":[{"productId":"p-0001","quantity":1}]}`, 201},
		{"POST", "order-processing", "/api/orders", `{"orderId":"o-1","customerId":"c-0001","items":[{"productId":"p-0001","quantity":1}]}`, 200},
		{"POST", "order-processing", "/api/orders", `{"orderId":"o-2","customerId":"c-0050","items":[{"productId":"p-0001","quantity":1}]}`, 402},
		{"POST", "order-processing", "/api/orders", `{"orderId":"o-3","customerId":"c-0001","items":[{"productId":"p-0040","quantity":6}]}`, 409},
		{"GET", "order-processing", "/api/orders/o-1", "", 200},
		{"GET", "order-processing", "/api/orders/o-9", "", 404},
		{"POST", "configuration-engine", "/api/configurations", `{"productId":"p-0006","options":{"switches":"linear","keycaps":"low-profile","layout":"iso"}}`, 422},
		{"GET", "analytics-service", "/api/analytics/counts", "", 200},
		{"GET", "inventory-management", "/api/inventory/%00", "", 400},
	}
	for _, c := range cases {
		status, body := s.do(c.method, c.service, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s: %v", c.method, c.path, body)
	}
	s.tellsItsWay(t)
	for _, name := range serviceNames() {
		require.NoError(t, s.stop(name, syscall.SIGTERM), name)
	}
}

// tellsItsWay orders a configured keyboard and looks where the order has been.
func (s *wholeShop) tellsItsWay(t *testing.T) {
	t.Helper()
	_, configuration := s.do("POST", "configuration-engine", "/api/configurations",
		`{"productId":"p-0006","options":{"switches":"linear","keycaps":"pbt","layout":"ortho"}}`)
	resp, err := http.Post("http://"+s.http["order-processing"]+"/api/orders", "application/json", strings.NewReader(
		fmt.Sprintf(`{"orderId":"o-way","customerId":"c-0001","configurationId":%q,"items":[{"productId":"p-0006","quantity":1}]}`, configuration["id"])))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 201, resp.StatusCode)
	var order struct{ TotalCents int64 }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&order))
	require.Equal(t, configuration["priceCents"], float64(order.TotalCents), "it costs what its configuration does")
	way, err := hops.Parse("order-processing", resp.Header.Get(shopapi.HopsHeader))
	require.NoError(t, err)
	require.Equal(t, hops.Hop{Service: "order-processing", Pod: "order-processing-0", Node: "here", Version: "v1", Attempts: 1, Own: way[0].Own, Took: way[0].Took}, way[0])
	asked := map[string]bool{}
	for _, h := range way {
		require.Zero(t, h.Untold)
		require.LessOrEqual(t, h.Own, h.Took)
		if h.Answered() {
			asked[h.Caller+">"+h.Service] = true
			require.Equal(t, h.Service+"-0", h.Pod)
		} else {
			asked[h.Service] = true
		}
	}
	require.Equal(t, map[string]bool{
		">order-processing": true, "order-processing>customer-profile": true, "order-processing>product-catalog": true,
		"order-processing>configuration-engine": true, "order-processing>inventory-management": true, "order-processing>payment-gateway": true,
		"payment-provider": true, "postgres": true,
	}, asked)
}

// Services die without a word, again and again, while customers buy and repeat
// what failed. In the end nothing is lost, doubled or oversold.
func TestNothingIsLostOrDoubledWhenServicesAreKilled(t *testing.T) {
	pg := startPostgres(t)
	s := openShop(t, pg)
	victims := []string{"order-processing", "inventory-management", "payment-gateway", "order-processing", "customer-profile", "inventory-management", "product-catalog", "order-processing"}
	acknowledged, failures := s.buyWhile(many, func() {
		for _, v := range victims {
			time.Sleep(700 * time.Millisecond)
			_ = s.stop(v, syscall.SIGKILL) // killed is how it must end
			time.Sleep(50 * time.Millisecond)
			s.start(v)
		}
	})
	require.Positive(t, failures, "the harm was felt")
	checkLedger(t, pg, acknowledged)
}

// Nor when PostgreSQL loses what it has not written yet. Whether a request fails
// meanwhile is chance: the shop waits for its database, and asks again.
func TestNothingAcknowledgedIsLostWhenPostgreSQLCrashes(t *testing.T) {
	pg := startPostgres(t)
	s := openShop(t, pg)
	began := map[string]bool{}
	acknowledged, _ := s.buyWhile(many, func() {
		for range 3 {
			time.Sleep(time.Second)
			if err := pg.Crash(); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			if err := pg.Restart(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			rows, err := pg.SQL("SELECT pg_postmaster_start_time()")
			if err != nil {
				t.Error(err)
			}
			began[strings.Join(rows, "")] = true
		}
	})
	require.Len(t, began, 3, "each crash ended it")
	checkLedger(t, pg, acknowledged)
}

// many is as many customers as keep a shop of two cores busy, few as leave it room.
const many, few = 8, 2

// buyWhile lets customers buy, and repeat what failed, until harm is done and a
// second more. It returns the orders that were confirmed to someone, and how
// many requests failed.
func (s *wholeShop) buyWhile(customers int, harm func()) (acknowledged *sync.Map, failed int64) {
	var buyers sync.WaitGroup
	acknowledged = &sync.Map{}
	var orders, failures atomic.Int64
	over := make(chan struct{})
	for b := range customers {
		buyers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(b), 3))
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				id := fmt.Sprintf("o-%d-%d", b, n)
				body := fmt.Sprintf(`{"orderId":%q,"customerId":"c-%04d","items":[{"productId":"p-%04d","quantity":1},{"productId":"p-%04d","quantity":2}]}`,
					id, 1+r.IntN(500), 40*(1+r.IntN(6)), 1+r.IntN(39))
				orders.Add(1)
				failures.Add(int64(s.buy(id, body, acknowledged)))
			}
		})
	}
	harm()
	time.Sleep(time.Second)
	close(over)
	buyers.Wait()
	s.t.Logf("%d orders, %d failed requests", orders.Load(), failures.Load())
	return acknowledged, failures.Load()
}

// buy tries up to three times and counts the failures.
func (s *wholeShop) buy(id, body string, acknowledged *sync.Map) (failures int) {
	for range 3 {
		status, _ := s.do("POST", "order-processing", "/api/orders", body)
		if status == 200 || status == 201 {
			acknowledged.Store(id, true)
		}
		if status != 0 && status < 500 {
			return failures
		}
		failures++
	}
	return failures
}

func checkLedger(t *testing.T, pg *shoptest.Postgres, acknowledged *sync.Map) {
	t.Helper()
	ask := func(query string) []string {
		rows, err := pg.SQL(query)
		require.NoError(t, err)
		return rows
	}
	require.Eventually(t, func() bool {
		return ask("SELECT (SELECT count(*) FROM orders.orders WHERE settled_at IS NULL) + (SELECT count(*) FROM orders.outbox)")[0] == "0"
	}, 2*time.Minute, 500*time.Millisecond, "orders left behind are finished, and told")
	require.Empty(t, ask("SELECT * FROM ledger.oversold"))
	require.Empty(t, ask("SELECT * FROM ledger.doubled"))
	require.Empty(t, ask("SELECT * FROM ledger.payment_mismatch"))
	confirmed := map[string]bool{}
	for _, id := range ask("SELECT id FROM orders.orders WHERE status = 'confirmed'") {
		confirmed[id] = true
	}
	require.NotEmpty(t, confirmed)
	acknowledged.Range(func(id, _ any) bool {
		require.True(t, confirmed[id.(string)], "%s was acknowledged", id)
		return true
	})
	require.NotEqual(t, []string{"0"}, ask("SELECT count(*) FROM orders.orders WHERE reason = 'out_of_stock'"), "more was wanted than there is")
}

//go:build postgres

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// BenchmarkShop calls the whole shop, eight processes on a real PostgreSQL, one
// request after another: how long one takes, and how much CPU the services
// and PostgreSQL spend on it together. With SHOP_REPLICA set the database has a
// replica, whose CPU counts as PostgreSQL's.
//
//	go test -tags postgres -run '^$' -bench Shop -benchtime 2000x ./fakeshop/cmd/fakeshop
func BenchmarkShop(b *testing.B) {
	var databases []*shoptest.Postgres
	pg := startPostgres(b)
	if os.Getenv("SHOP_REPLICA") != "" {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		replica, err := pg.StartReplica(ctx)
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, replica.Stop()) })
		databases = append(databases, replica)
	}
	s := openShop(b, pg)
	databases = append(databases, pg)
	for _, c := range []struct {
		name, method, service, path string
		body                        func(n int) string
		status                      int
	}{
		{"order", "POST", "order-processing", "/api/orders", func(n int) string {
			return fmt.Sprintf(`{"orderId":"bench-%d-%d","customerId":"c-0001","items":[{"productId":"p-%04d","quantity":1}]}`,
				time.Now().UnixNano(), n, 1+n%39)
		}, 201},
		{"product page", "GET", "product-catalog", "/api/catalog/products/p-0006", nil, 200},
		{"list", "GET", "product-catalog", "/api/catalog/products?page=2", nil, 200},
		{"search", "GET", "product-catalog", "/api/catalog/search?q=cedar+keyboard", nil, 200},
		{"configure", "POST", "configuration-engine", "/api/configurations", func(n int) string {
			return fmt.Sprintf(`{"productId":"p-%04d","options":{"switches":"linear","keycaps":"abs","layout":"iso"}}`, 6*(1+n%40))
		}, 0},
		{"recommend", "GET", "recommendation-service", "/api/recommendations?customer=c-0001", nil, 200},
		{"stock", "GET", "inventory-management", "/api/inventory/p-0001", nil, 200},
	} {
		b.Run(c.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			services, postgres := s.cpu(b, databases)
			for n := 0; b.Loop(); n++ {
				body := ""
				if c.body != nil {
					body = c.body(n)
				}
				began := time.Now()
				status, answer := s.do(c.method, c.service, c.path, body)
				took = append(took, time.Since(began))
				if status != c.status && (c.status != 0 || status/100 != 2) {
					b.Fatalf("status %d: %v", status, answer)
				}
			}
			servicesAfter, postgresAfter := s.cpu(b, databases)
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64((servicesAfter-services).Microseconds())/float64(len(took)), "services-cpu-µs/op")
			b.ReportMetric(float64((postgresAfter-postgres).Microseconds())/float64(len(took)), "postgres-cpu-µs/op")
		})
	}
}

// cpu is what the services and PostgreSQL's processes have used so far.
func (s *wholeShop) cpu(t testing.TB, databases []*shoptest.Postgres) (services, postgres time.Duration) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	own := map[string]bool{}
	for _, c := range s.procs {
		own[strconv.Itoa(c.Process.Pid)] = true
	}
	const tick = 10 * time.Millisecond // of Linux's accounting
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		head, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		used := func() (d time.Duration) {
			for _, i := range []int{11, 12} { // user, system
				n, err := strconv.Atoi(fields[i])
				require.NoError(t, err)
				d += time.Duration(n) * tick
			}
			return d
		}
		pid, name, _ := strings.Cut(head, " (")
		switch {
		case own[pid]:
			services += used()
		case name == "postgres" && slices.ContainsFunc(databases, func(p *shoptest.Postgres) bool { return worksIn(pid, p.DataDir()) }):
			postgres += used()
		}
	}
	return services, postgres
}

// worksIn tells whether a process has its working directory there.
func worksIn(pid, dir string) bool {
	cwd, err := os.Readlink("/proc/" + pid + "/cwd")
	return err == nil && cwd == dir
}

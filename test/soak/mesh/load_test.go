package mesh

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/test/loopmesh/echo"
)

const (
	// callTimeout tells what hangs from what is slow: the race detector, on a
	// machine that others use too, takes seconds for a stream.
	callTimeout = time.Minute
	betweenAny  = 10 * time.Millisecond
	// connLife is how long a client keeps a TCP connection: one that is older
	// than its server's end would be cut, as it is without a mesh.
	connLife = 500 * time.Millisecond
)

// book is what became of all requests.
type book struct {
	sent    atomic.Int64
	mu      sync.Mutex
	slowest map[echo.Protocol]time.Duration
	failed  []string
}

func newBook() *book { return &book{slowest: map[echo.Protocol]time.Duration{}} }

func (b *book) note(p echo.Protocol, took time.Duration, err error) {
	b.sent.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slowest[p] = max(b.slowest[p], took)
	if err == nil {
		return
	}
	b.failed = append(b.failed, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), p, err))
}

// traffic is what one client pod sends.
type traffic struct {
	stop chan struct{}
	wg   sync.WaitGroup
}

// start sends by the pod's proxy, in every protocol, until end is called.
func (c *cluster) start(p *pod, b *book) *traffic {
	x := &traffic{stop: make(chan struct{})}
	web := func(ctx context.Context) (net.Conn, error) { return p.Dial(ctx, c.fromWeb()) }
	opaque := func(ctx context.Context) (net.Conn, error) { return p.Dial(ctx, c.fromOpaque()) }
	for _, s := range []struct {
		protocol echo.Protocol
		dial     echo.Dialer
		workers  int
		life     time.Duration // of a client with its connections; 0 is for ever
	}{
		{echo.HTTP, web, 3, 0},
		{echo.HTTP, web, 1, connLife},
		{echo.GRPC, web, 3, 0},
		{echo.Stream, web, 1, 0},
		{echo.TCP, opaque, 1, connLife},
		{echo.TCP, opaque, 1, connLife},
	} {
		x.wg.Go(func() {
			for x.more(s.protocol, s.dial, s.workers, s.life, b) {
			}
		})
	}
	return x
}

// more sends with one client for its life, and says whether there is to be another.
func (x *traffic) more(p echo.Protocol, dial echo.Dialer, workers int, life time.Duration, b *book) bool {
	client, err := echo.NewClient(p, dial)
	if err != nil {
		b.note(p, 0, err)
		return false
	}
	defer client.Close()
	over := make(<-chan time.Time)
	if life > 0 {
		over = time.After(life)
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(betweenAny):
				}
				ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
				begin := time.Now()
				err := client.Call(ctx)
				b.note(p, time.Since(begin), err)
				cancel()
			}
		})
	}
	again := true
	select {
	case <-x.stop:
		again = false
	case <-over:
	}
	close(ended)
	wg.Wait()
	return again
}

// end returns when the last request is answered.
func (x *traffic) end() {
	close(x.stop)
	x.wg.Wait()
}

// verify holds that something was sent and nothing failed.
func (b *book) verify(t *testing.T, least int64) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("the slowest: %v", b.slowest)
	require.Empty(t, b.failed)
	require.Greater(t, b.sent.Load(), least)
}

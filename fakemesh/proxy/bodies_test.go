package proxy

import (
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// endless makes bytes and counts those that were taken.
type endless struct {
	left  int64 // below 0 it has no end
	taken atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left >= 0 {
		rest := e.left - e.taken.Load()
		if rest == 0 {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), rest)]
	}
	for i := range p {
		p[i] = byte(i)
	}
	e.taken.Add(int64(len(p)))
	return len(p), nil
}

// peak is the most memory that is in use until stop is called.
func peak() (stop func() uint64) {
	runtime.GC()
	done, over := make(chan struct{}), make(chan uint64)
	go func() {
		var m runtime.MemStats
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
			select {
			case <-done:
				over <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-over
	}
}

func TestABodyFarLargerThanTheMemoryPassesBothWays(t *testing.T) {
	const size = 256 << 20
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		c.Timeout = 0
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		stop := peak()
		res, err := c.Post("http://x/", "application/octet-stream", &endless{left: size})
		require.NoError(t, err)
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.Less(t, int64(stop())-int64(m.HeapInuse+m.StackInuse), int64(size/8))
	})
}

// settled waits until a count stands still, and gives it.
func settled(t *testing.T, count func() int64) int64 {
	t.Helper()
	last, since := int64(-1), time.Now()
	require.Eventually(t, func() bool {
		if now := count(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 400*time.Millisecond
	}, 20*time.Second, 20*time.Millisecond, "it goes on and on")
	return last
}

// mostInFlight is what buffers of four connections, kernels' and proxies', may
// hold of a body that nobody reads.
const mostInFlight = 24 << 20

func TestAServerThatDoesNotReadHoldsItsClientBack(t *testing.T) {
	release := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release })
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		body := &endless{left: -1}
		c.Timeout = 0
		done := make(chan struct{})
		req, err := http.NewRequest(http.MethodPost, "http://x/", body)
		require.NoError(t, err)
		req = req.WithContext(short(t))
		go func() {
			defer close(done)
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		got := settled(t, body.taken.Load)
		require.Positive(t, got)
		require.Less(t, got, int64(mostInFlight))
		c.CloseIdleConnections()
		<-done
	})
}

func TestAClientThatDoesNotReadHoldsItsServerBack(t *testing.T) {
	var written atomic.Int64
	piece := make([]byte, 32<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			n, err := w.Write(piece)
			if err != nil {
				return
			}
			written.Add(int64(n))
		}
	})
	both(t, h, func(t *testing.T, c *http.Client, _ *pod, _ *sidecar) {
		written.Store(0)
		c.Timeout = 0
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		got := settled(t, written.Load)
		require.Positive(t, got)
		require.Less(t, got, int64(mostInFlight))
		res.Body.Close()
	})
}

func TestARequestIsCountedAsItBeginsAndItsAnswerByItsFirstPiece(t *testing.T) {
	next := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "last")
	})
	both(t, h, func(t *testing.T, c *http.Client, p *pod, s *sidecar) {
		res, err := c.Get("http://x/")
		require.NoError(t, err)
		defer res.Body.Close()
		_, err = io.ReadFull(res.Body, make([]byte, 5))
		require.NoError(t, err)
		for _, m := range []*sidecar{s, {metrics: p.metrics}} {
			require.Equal(t, map[string]float64{"true/": 1}, counted(t, m.metrics, "request_total"))
			require.Empty(t, counted(t, m.metrics, "response_total"))
		}
		time.Sleep(300 * time.Millisecond)
		next <- struct{}{}
		_, err = io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(counted(t, p.metrics, "response_total")) == 1 }, 5*time.Second, 5*time.Millisecond)
		all, err := p.metrics.Gather()
		require.NoError(t, err)
		for _, f := range all {
			if f.GetName() == "response_latency_ms" {
				require.Less(t, f.Metric[0].Histogram.GetSampleSum(), 300.0, "to the first piece, not to the last")
			}
		}
	})
}

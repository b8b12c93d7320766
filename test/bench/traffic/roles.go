package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
	"meshsim.dev/meshsim/test/bench/sheet"
)

// A child is this program again, in a role that the environment names. It says
// what it has to say as one line of JSON.
const (
	envRole = "TRAFFIC_BENCH_ROLE"
	envTask = "TRAFFIC_BENCH_TASK" // JSON of what the role takes

	roleServer = "server"
	roleSender = "sender"
)

func runRole(ctx context.Context, role, task string, stdin io.Reader, stdout io.Writer) error {
	switch role {
	case roleServer:
		return serve(ctx, stdin, stdout)
	case roleSender:
		var t sending
		if err := json.Unmarshal([]byte(task), &t); err != nil {
			return fmt.Errorf("read the task: %w", err)
		}
		s, err := send(ctx, t)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(s)
	}
	return fmt.Errorf("no such role: %s", role)
}

// doors are where the server that does nothing listens.
type doors struct{ HTTP, GRPC string }

// null answers everything with next to nothing.
type null struct {
	shopapi.UnimplementedProductCatalogServer
}

func (null) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = []string{"application/json"} // not to be guessed each time
	_, _ = io.WriteString(w, "{}")
}

func (null) GetProduct(context.Context, *shopapi.GetProductRequest) (*shopapi.GetProductResponse, error) {
	return &shopapi.GetProductResponse{}, nil
}

// serve is the server's life; it ends with its standard input.
func serve(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	web, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	rpc, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("listen for gRPC: %w", err), web.Close())
	}
	overHTTP := &http.Server{Handler: null{}, ReadHeaderTimeout: time.Second}
	overGRPC := grpc.NewServer()
	shopapi.RegisterProductCatalogServer(overGRPC, null{})
	var serving sync.WaitGroup
	serving.Go(func() { _ = overHTTP.Serve(web) }) // ends by Close
	serving.Go(func() { _ = overGRPC.Serve(rpc) }) // ends by Stop
	err = json.NewEncoder(stdout).Encode(doors{web.Addr().String(), rpc.Addr().String()})
	if err == nil {
		ended := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, stdin); close(ended) }()
		select {
		case <-ctx.Done():
		case <-ended:
		}
	}
	err = errors.Join(err, overHTTP.Close())
	overGRPC.Stop()
	serving.Wait()
	return err
}

// sending is what a sender does.
type sending struct {
	Doors   doors
	Routes  map[string]int // browse, grpc-get-product
	Rate    float64        // requests a second
	Lasts   time.Duration
	Results int    // ends it when there are as many, 0 for none
	Folder  string // for the run's record
	Profile string // file names begin with it; "" is no profile
}

// sent is what became of it.
type sent struct {
	Requests int64         `json:"requests"` // scheduled
	OK       int64         `json:"ok"`
	Failed   int64         `json:"failed"`
	NotSent  int64         `json:"notSent"`
	LagP50   int64         `json:"lagP50Us"`
	LagP99   int64         `json:"lagP99Us"`
	LagMax   int64         `json:"lagMaxUs"`
	P50      int64         `json:"p50Us"` // from the scheduled instant
	P99      int64         `json:"p99Us"`
	Took     time.Duration `json:"tookNs"`
	residence
}

// send is a rehearsal's traffic, record and all.
func send(ctx context.Context, t sending) (sent, error) {
	stop, err := sheet.Profile(t.Profile)
	if err != nil {
		return sent{}, err
	}
	folder, err := results.Create(t.Folder, fmt.Sprintf("bench-%d", time.Now().UnixNano()))
	if err != nil {
		return sent{}, err
	}
	lower, _ := traffic.RaisePriority() // as a rehearsal does; without root it has to do without
	defer lower()
	defer traffic.Ballast()()
	lags := newLags()
	var broken error
	var count atomic.Int64
	enough := make(chan struct{})
	begin := time.Now()
	s, err := traffic.Start(ctx, traffic.Options{
		Traffic: scenarios.Traffic{
			Shape: shape.Constant(t.Rate), Mix: t.Routes, CompressTo: time.Hour, Timeout: 5 * time.Second, MaxLate: 50 * time.Millisecond,
			Sender: scenarios.Sender{Connections: scenarios.KeepAlive},
		},
		Seed: 1, HTTP: t.Doors.HTTP, GRPC: t.Doors.GRPC, Begin: begin,
		PhaseAt: func(int64) string { return "all" }, ScaleAt: func(int64) float64 { return 1 },
		Sink: func(r results.Request) {
			lags.add(r)
			if err := folder.AddRequest(r); err != nil {
				lags.fail(&broken, err)
			}
			if count.Add(1) == int64(t.Results) {
				close(enough)
			}
		},
	})
	if err != nil {
		return sent{}, errors.Join(err, folder.Close())
	}
	select {
	case <-ctx.Done():
	case <-enough:
	case <-time.After(t.Lasts):
	}
	took := time.Since(begin)
	err = errors.Join(s.Stop(), folder.Close(), stop(), broken, context.Cause(ctx))
	c := s.Total()
	resident, peakErr := peak()
	err = errors.Join(err, peakErr)
	return sent{
		Requests: c.Scheduled, OK: c.OK, Failed: c.Failed + c.Rejected, NotSent: c.Undispatched,
		LagP50: lags.h.ValueAtQuantile(50), LagP99: lags.h.ValueAtQuantile(99), LagMax: lags.h.Max(),
		P50: c.P50.Microseconds(), P99: c.P99.Microseconds(), Took: took, residence: resident,
	}, err
}

// lags are how late requests left, in microseconds, but for a first moment in
// which connections are made.
type lags struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// firstMoment is not counted.
const firstMoment = 250 * time.Millisecond

func newLags() *lags { return &lags{h: hdrhistogram.New(1, time.Minute.Microseconds(), 3)} }

func (l *lags) add(r results.Request) {
	if r.Outcome == results.Undispatched || r.Scheduled < int64(firstMoment) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.h.RecordValue(min(max(r.Lag()/1000, 1), l.h.HighestTrackableValue())) // cannot fail within the range
}

func (l *lags) fail(first *error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *first == nil {
		*first = err
	}
}

// residence is what of a process is in memory.
type residence struct {
	Resident int64 `json:"residentBytes"` // the most at any time
	File     int64 `json:"fileBytes"`     // of that, pages of the program's file, in the end
}

// peak is this process's residence so far.
func peak() (residence, error) {
	m, err := sheet.MemoryOf("self")
	if err != nil {
		return residence{}, fmt.Errorf("read the memory in use: %w", err)
	}
	return residence{Resident: m.Peak, File: m.File}, nil
}

package twin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Options say what to measure.
type Options struct {
	// Plain and Meshed are the addresses of the server without a proxy and of the
	// one behind one: HOST:PORT of an echo server, or http://HOST:PORT/PATH of a
	// page.
	Plain   string
	Meshed  string
	Triples int
	Payload int     // bytes, of an echo
	Rate    float64 // triples a second
}

// Result is what a measurement gave: three lists of the same length, in
// milliseconds; index i of each is one triple.
type Result struct {
	PayloadBytes int       `json:"payloadBytes"`
	Plain        []float64 `json:"plain"`
	Meshed       []float64 `json:"meshed"`
	PlainAgain   []float64 `json:"plainAgain"`
	// Lost counts triples of pages that had a call without a whole answer. They
	// are in no list.
	Lost int `json:"lost,omitempty"`
}

const (
	warmUp       = 50 // triples that settle connections and are not kept
	callTimeout  = 5 * time.Second
	startTimeout = 150 * time.Second
)

// Measure calls the three in random order within each triple. A call to an echo
// server that fails ends the measurement: a gap would bias the percentiles. A
// page may lack what was late; such triples are counted and measured again, and
// more than lostAtMost end the measurement.
func Measure(ctx context.Context, o Options) (Result, error) {
	if o.Plain == "" || o.Meshed == "" || isPage(o.Plain) != isPage(o.Meshed) || o.Triples < 1 || o.Payload < 0 || o.Rate <= 0 {
		return Result{}, errors.New("twin-client needs --plain, --meshed, of one kind, --triples ≥ 1, --payload ≥ 0 and --rate > 0")
	}
	plain, err := open(o.Plain, o.Payload)
	if err != nil {
		return Result{}, err
	}
	defer plain.close()
	meshed, err := open(o.Meshed, o.Payload)
	if err != nil {
		return Result{}, err
	}
	defer meshed.close()

	r := Result{PayloadBytes: o.Payload}
	lanes := []struct {
		caller
		name string
		into *[]float64
	}{{plain, o.Plain, &r.Plain}, {meshed, o.Meshed, &r.Meshed}, {plain, o.Plain, &r.PlainAgain}}
	for _, lane := range lanes[:2] {
		if err := await(ctx, lane.caller, lane.name); err != nil {
			return Result{}, err
		}
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / o.Rate))
	defer tick.Stop()
	for i := -warmUp; i < o.Triples; i++ {
		var took [3]float64
		for _, n := range rand.Perm(len(lanes)) {
			if took[n], err = timed(ctx, lanes[n]); err != nil {
				err = fmt.Errorf("triple %d: call %s: %w", i, lanes[n].name, err)
				break
			}
		}
		switch {
		case err != nil && (ctx.Err() != nil || r.Lost >= lostAtMost(o)):
			return Result{}, err
		case err != nil && i >= 0:
			r.Lost++
			i--
		case i >= 0:
			for n, lane := range lanes {
				*lane.into = append(*lane.into, took[n])
			}
		}
		select {
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return r, nil
}

// lostAtMost is how many triples may be lost: a hundredth, of pages.
func lostAtMost(o Options) int {
	if !isPage(o.Plain) {
		return 0
	}
	return max(o.Triples/100, 3)
}

// open prepares the way to a twin.
func open(addr string, payload int) (caller, error) {
	if isPage(addr) {
		return newPage(addr), nil
	}
	conn, err := dial(addr)
	if err != nil {
		return nil, err
	}
	return &echo{conn, &wrapperspb.BytesValue{Value: make([]byte, payload)}}, nil
}

func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

// echo is a twin that gives back what it is sent, by gRPC.
type echo struct {
	conn    *grpc.ClientConn
	payload *wrapperspb.BytesValue
}

func (e *echo) close() error { return e.conn.Close() }

func (e *echo) call(ctx context.Context) error {
	var out wrapperspb.BytesValue
	if err := e.conn.Invoke(ctx, echoMethod, e.payload, &out); err != nil {
		return err
	}
	if len(out.Value) != len(e.payload.Value) {
		return fmt.Errorf("%d bytes came back of %d", len(out.Value), len(e.payload.Value))
	}
	return nil
}

// timed returns the milliseconds that one call took, to a microsecond.
func timed(ctx context.Context, c caller) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	start := time.Now()
	err := c.call(ctx)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return math.Round(float64(took)/float64(time.Microsecond)) / 1000, nil
}

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
	Plain   string // address of the server without a proxy
	Meshed  string // address of the server behind a proxy
	Triples int
	Payload int     // bytes
	Rate    float64 // triples a second
}

// Result is what a measurement gave: three lists of the same length, in
// milliseconds; index i of each is one triple.
type Result struct {
	PayloadBytes int       `json:"payloadBytes"`
	Plain        []float64 `json:"plain"`
	Meshed       []float64 `json:"meshed"`
	PlainAgain   []float64 `json:"plainAgain"`
}

const (
	warmUp       = 50 // triples that settle connections and are not kept
	callTimeout  = 5 * time.Second
	startTimeout = 90 * time.Second
)

// Measure calls the three in random order within each triple. A call that
// fails ends the measurement: a gap would bias the percentiles.
func Measure(ctx context.Context, o Options) (Result, error) {
	if o.Plain == "" || o.Meshed == "" || o.Triples < 1 || o.Payload < 0 || o.Rate <= 0 {
		return Result{}, errors.New("twin-client needs --plain, --meshed, --triples ≥ 1, --payload ≥ 0 and --rate > 0")
	}
	plain, err := dial(o.Plain)
	if err != nil {
		return Result{}, err
	}
	defer plain.Close()
	meshed, err := dial(o.Meshed)
	if err != nil {
		return Result{}, err
	}
	defer meshed.Close()

	r := Result{PayloadBytes: o.Payload}
	lanes := []struct {
		conn *grpc.ClientConn
		into *[]float64
	}{{plain, &r.Plain}, {meshed, &r.Meshed}, {plain, &r.PlainAgain}}
	payload := &wrapperspb.BytesValue{Value: make([]byte, o.Payload)}
	for _, conn := range []*grpc.ClientConn{plain, meshed} {
		if err := awaitServer(ctx, conn, payload); err != nil {
			return Result{}, err
		}
	}
	pause := time.NewTicker(time.Duration(float64(time.Second) / o.Rate))
	defer pause.Stop()
	for i := -warmUp; i < o.Triples; i++ {
		for _, lane := range rand.Perm(len(lanes)) {
			took, err := call(ctx, lanes[lane].conn, payload)
			if err != nil {
				return Result{}, fmt.Errorf("triple %d: call %s: %w", i, lanes[lane].conn.Target(), err)
			}
			if i >= 0 {
				*lanes[lane].into = append(*lanes[lane].into, took)
			}
		}
		select {
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		case <-pause.C:
		}
	}
	return r, nil
}

func dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

// awaitServer calls until the server answers: it may still be coming up.
func awaitServer(ctx context.Context, conn *grpc.ClientConn, payload *wrapperspb.BytesValue) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, err := call(ctx, conn, payload)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer within %s: %w", conn.Target(), startTimeout, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// call returns the milliseconds that one echo took, to a microsecond.
func call(ctx context.Context, conn *grpc.ClientConn, payload *wrapperspb.BytesValue) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out wrapperspb.BytesValue
	start := time.Now()
	if err := conn.Invoke(ctx, echoMethod, payload, &out); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if len(out.Value) != len(payload.Value) {
		return 0, fmt.Errorf("%d bytes came back of %d", len(out.Value), len(payload.Value))
	}
	return math.Round(float64(took)/float64(time.Microsecond)) / 1000, nil
}

package twin

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openTwin serves echoes on loopback until the test ends.
func openTwin(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return l.Addr().String()
}

func TestATripleHasOneSampleOfEach(t *testing.T) {
	got, err := Measure(t.Context(), Options{Plain: openTwin(t), Meshed: openTwin(t), Triples: 40, Payload: 512, Rate: 2000})
	require.NoError(t, err)
	require.Equal(t, 512, got.PayloadBytes)
	for name, samples := range map[string][]float64{"plain": got.Plain, "meshed": got.Meshed, "plain again": got.PlainAgain} {
		require.Len(t, samples, 40, name)
		for _, ms := range samples {
			require.Positive(t, ms, name)
			require.Less(t, ms, 5000.0, name)
			require.InDelta(t, ms*1000, float64(int64(ms*1000+0.5)), 1e-6, "%s: to the microsecond", name)
		}
	}
}

func TestAnEmptyPayloadIsMeasuredToo(t *testing.T) {
	addr := openTwin(t)
	got, err := Measure(t.Context(), Options{Plain: addr, Meshed: addr, Triples: 1, Rate: 2000})
	require.NoError(t, err)
	require.Len(t, got.Meshed, 1)
}

func TestMeasuringWaitsForATwinThatIsStillComingUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	timer := time.AfterFunc(200*time.Millisecond, func() { served <- Serve(ctx, addr) })
	defer func() {
		cancel()
		if !timer.Stop() {
			require.NoError(t, <-served)
		}
	}()
	got, err := Measure(t.Context(), Options{Plain: openTwin(t), Meshed: addr, Triples: 2, Payload: 1, Rate: 2000})
	require.NoError(t, err)
	require.Len(t, got.Meshed, 2)
}

func TestAFailedCallEndsTheMeasurement(t *testing.T) {
	plain, meshed := openTwin(t), ""
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	meshed = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l) }()
	time.AfterFunc(150*time.Millisecond, cancel)
	_, err = Measure(t.Context(), Options{Plain: plain, Meshed: meshed, Triples: 100_000, Payload: 1, Rate: 1000})
	require.ErrorContains(t, err, "call "+meshed)
	require.NoError(t, <-served)
}

func TestAnInterruptedMeasurementGivesNothing(t *testing.T) {
	addr := openTwin(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	got, err := Measure(ctx, Options{Plain: addr, Meshed: addr, Triples: 100_000, Payload: 1, Rate: 100})
	require.Error(t, err)
	require.Empty(t, got)
}

func TestMeasureRefusesOptionsThatMeasureNothing(t *testing.T) {
	good := Options{Plain: "127.0.0.1:1", Meshed: "127.0.0.1:2", Triples: 1, Rate: 1}
	for name, edit := range map[string]func(*Options){
		"no plain twin":         func(o *Options) { o.Plain = "" },
		"no meshed twin":        func(o *Options) { o.Meshed = "" },
		"twins that are unlike": func(o *Options) { o.Meshed = "http://127.0.0.1:2/" },
		"no triples":            func(o *Options) { o.Triples = 0 },
		"negative payload":      func(o *Options) { o.Payload = -1 },
		"no rate":               func(o *Options) { o.Rate = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			edit(&o)
			_, err := Measure(t.Context(), o)
			require.ErrorContains(t, err, "twin-client needs")
		})
	}
}

func TestATwinTellsItsHealth(t *testing.T) {
	conn, err := dial(openTwin(t))
	require.NoError(t, err)
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.GetStatus())
}

func TestServeSaysWhereItCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.ErrorContains(t, Serve(t.Context(), l.Addr().String()), "listen on "+l.Addr().String())
}

func BenchmarkEcho(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	echoes, err := open(l.Addr().String(), 512)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := timed(ctx, echoes); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, echoes.close())
	cancel()
	require.NoError(b, <-done)
}

package probes_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// kernel is a folder of the kernel's counters, as two CPUs would have them.
type kernel struct {
	t    *testing.T
	path string
	now  time.Time
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	k := &kernel{t: t, path: t.TempDir(), now: time.Unix(1_000_000, 0)}
	require.NoError(t, os.Mkdir(filepath.Join(k.path, "pressure"), 0o755))
	return k
}

func (k *kernel) write(file, text string) {
	k.t.Helper()
	require.NoError(k.t, os.WriteFile(filepath.Join(k.path, file), []byte(text), 0o644))
}

func (k *kernel) meter() *probes.HostMeter {
	k.t.Helper()
	m, err := probes.NewHostMeter(k.path, func() time.Time { return k.now })
	require.NoError(k.t, err)
	return m
}

func TestTheHostMeterTellsWhatWasBetweenTwoReadings(t *testing.T) {
	k := newKernel(t)
	// user nice system idle iowait irq softirq steal guest guest_nice, in hundredths of a second
	k.write("stat", "cpu 1000 500 300 8000 200 0 0 0 0 0\n")
	k.write("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=4000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	m := k.meter()

	k.now = k.now.Add(10 * time.Second) // 20 CPU-seconds
	k.write("stat", "cpu 1600 700 600 8400 300 100 100 200 0 0\n")
	k.write("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=6500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	seen, err := m.Read()
	require.NoError(t, err)
	require.Equal(t, 10*time.Second, seen.Lasted)
	require.InDelta(t, 0.75, seen.Busy, 1e-9, "15 of 20 CPU-seconds; waiting for a disk is idle")
	require.InDelta(t, 0.1, seen.Stolen, 1e-9)
	require.NotNil(t, seen.Waiting)
	require.InDelta(t, 0.25, *seen.Waiting, 1e-9, "2.5 of 10 seconds")

	k.now = k.now.Add(5 * time.Second)
	k.write("stat", "cpu 1600 700 600 9400 300 100 100 200 0 0\n")
	seen, err = m.Read()
	require.NoError(t, err)
	require.Zero(t, seen.Busy, "only what was since the last reading counts")
	require.Zero(t, *seen.Waiting)
}

func TestAKernelThatDoesNotTellPressureLeavesItOpen(t *testing.T) {
	k := newKernel(t)
	k.write("stat", "cpu 100 0 0 900 0 0 0 0 0 0\n")
	m := k.meter()
	k.now = k.now.Add(time.Second)
	k.write("stat", "cpu 150 0 0 1050 0 0 0 0 0 0\n")
	seen, err := m.Read()
	require.NoError(t, err)
	require.InDelta(t, 0.25, seen.Busy, 1e-9)
	require.Nil(t, seen.Waiting)
}

func TestTwoReadingsOfOneInstantAreAnError(t *testing.T) {
	k := newKernel(t)
	k.write("stat", "cpu 100 0 0 900 0 0 0 0 0 0\n")
	_, err := k.meter().Read()
	require.EqualError(t, err, "no time has passed since the host was looked at last")
}

func TestAHostWithoutCountersIsAnError(t *testing.T) {
	k := newKernel(t)
	_, err := probes.NewHostMeter(k.path, time.Now)
	require.ErrorContains(t, err, "read how busy the CPUs are")
}

func TestTheHostIsFollowedSecondBySecond(t *testing.T) {
	k := newKernel(t)
	k.write("stat", "cpu 0 0 0 1000 0 0 0 0 0 0\n")
	k.write("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	m := k.meter()
	ticks, clock := make(chan time.Time), make(chan int64)
	var ended error
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended = m.Follow(t.Context(), ticks, func() int64 { return <-clock })
	}()
	clock <- 100
	tick := func(at int64, stat, waited string) { // one second of the kernel's each
		k.now = k.now.Add(time.Second)
		k.write("stat", stat)
		k.write("pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total="+waited+"\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
		ticks <- k.now
		clock <- at
	}
	tick(1100, "cpu 50 0 0 1150 0 0 0 0 0 0\n", "333333")
	tick(2100, "cpu 50 0 0 1150 0 0 0 0 0 0\n", "333333") // the kernel's counters stood still
	tick(3100, "cpu 250 0 0 1150 0 0 0 0 0 0\n", "2333333")
	close(ticks)
	<-done
	require.NoError(t, ended)
	seen, err := m.Read()
	require.NoError(t, err)
	waited := func(share float64) *float64 { return &share }
	require.Equal(t, []results.HostSecond{
		{From: 100, To: 1100, Busy: 0.25, Waiting: waited(0.333)},
		{From: 1100, To: 3100, Busy: 1, Waiting: waited(1)},
	}, seen.Seconds)

	k.now = k.now.Add(time.Second)
	k.write("stat", "cpu 250 0 0 1350 0 0 0 0 0 0\n")
	seen, err = m.Read()
	require.NoError(t, err)
	require.Empty(t, seen.Seconds, "what was handed over is not told again")
}

func TestAHostIsFollowedUntilTheContextEnds(t *testing.T) {
	k := newKernel(t)
	k.write("stat", "cpu 0 0 0 1000 0 0 0 0 0 0\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, k.meter().Follow(ctx, nil, func() int64 { return 0 }))
}

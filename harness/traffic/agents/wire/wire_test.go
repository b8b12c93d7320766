package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// owners tells which agents, of all groups that share a schedule, an arrival belongs to.
func owners(groups []scenarios.Agents, seed, lane, number uint64) (all []string) {
	for i, p := range Parts(groups) {
		for p.Index = range p.Of {
			if p.Has(seed, lane, number) {
				all = append(all, fmt.Sprintf("%s/%d", groups[i].Name, p.Index))
			}
		}
	}
	return all
}

func TestTheUnionOverAgentsIsTheWholeAndNoneHaveAnythingInCommon(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var groups []scenarios.Agents
		left := 1.0
		for i := range 1 + rng.IntN(4) {
			share := left * rng.Float64()
			groups = append(groups, scenarios.Agents{Name: fmt.Sprint("g", i), Count: 1 + rng.IntN(9), Share: share})
			left -= share
		}
		groups[len(groups)-1].Share += left // together they have all of it
		seed := rng.Uint64()
		for n := range uint64(300) {
			require.Len(t, owners(groups, seed, n%3, n), 1, "%+v number %d", groups, n)
		}
	}
}

func TestAgentsShareEvenlyAndTheOuterSenderKeepsTheRest(t *testing.T) {
	groups := []scenarios.Agents{{Name: "a", Count: 4, Share: 0.5}, {Name: "b", Count: 1, Share: 0.2}}
	const arrivals = 40_000
	count := map[string]int{}
	for n := range uint64(arrivals) {
		own := owners(groups, 5000, 0, n)
		require.LessOrEqual(t, len(own), 1)
		count[fmt.Sprint(own)]++
	}
	for who, want := range map[string]float64{"[a/0]": 0.125, "[a/1]": 0.125, "[a/2]": 0.125, "[a/3]": 0.125, "[b/0]": 0.2, "[]": 0.3} {
		require.InDelta(t, want, float64(count[who])/arrivals, 0.01, who)
	}
}

func TestWhatAnArrivalBelongsToDependsOnSeedAndNumberAlone(t *testing.T) {
	groups := []scenarios.Agents{{Name: "a", Count: 3, Share: 0.5}}
	require.Equal(t, owners(groups, 7, 1, 1000), owners(groups, 7, 1, 1000))
	differ := 0
	for n := range uint64(100) {
		if fmt.Sprint(owners(groups, 7, 1, n)) != fmt.Sprint(owners(groups, 8, 1, n)) {
			differ++
		}
	}
	require.Greater(t, differ, 20, "another seed is another share")
}

func TestATenthTenTimesIsAll(t *testing.T) {
	var groups []scenarios.Agents
	for i := range 10 {
		groups = append(groups, scenarios.Agents{Name: fmt.Sprint(i), Count: 1, Share: 0.1})
	}
	require.Equal(t, 1.0, Parts(groups)[9].To)
}

// due collects what the arrivals of a scenario are, for whoever mine is.
func due(t *testing.T, mine func(traffic.Due) bool) (all []traffic.Due) {
	t.Helper()
	o := traffic.Options{
		Traffic: scenarios.Traffic{Shape: shape.Ramp(20, 200, time.Minute), Mix: map[string]int{"browse": 3, "order": 2, "grpc-stock": 1}},
		Seed:    42, ScaleAt: Timeline{Scales: []Scale{{0, 1}, {int64(20 * time.Second), 2}, {int64(50 * time.Second), 0}}}.ScaleAt,
	}
	require.NoError(t, traffic.EachDue(o, time.Minute, func(d traffic.Due) {
		if mine(d) {
			all = append(all, d)
		}
	}))
	return all
}

func TestTheArrivalsOfAllAgentsAreTheDeclaredOnesForAnyNumberOfThem(t *testing.T) {
	whole := due(t, func(traffic.Due) bool { return true })
	require.Greater(t, len(whole), 5000)
	require.Less(t, whole[len(whole)-1].At, 50*time.Second+50*time.Millisecond)
	for n := 1; n <= 17; n += 4 {
		seen := map[traffic.Due]bool{}
		for index := range n {
			part := Part{To: 1, Of: n, Index: index}
			for _, d := range due(t, func(d traffic.Due) bool { return part.Has(42, d.Lane, d.Number) }) {
				require.False(t, seen[d], "%+v twice", d)
				seen[d] = true
			}
		}
		require.Len(t, seen, len(whole), n)
		for _, d := range whole {
			require.True(t, seen[d], "%+v of %d agents", d, n)
		}
	}
}

func TestAPlanSurvivesTheWayAndGivesTheSameRates(t *testing.T) {
	base := scenarios.DefaultTraffic()
	text := "{sum: [launch-day, {spike: {base: 0, peak: 60, at: 90s, rise: 2s, hold: 5s}}]}"
	var err error
	base.Shape, err = scenarios.ParseShape("x", text, base)
	require.NoError(t, err)
	base.ShapeText = text
	for _, c := range []struct {
		name  string
		group scenarios.Agents
		rates shape.Shape
		mix   map[string]int
	}{
		{"a share has the scenario's shape and mix", scenarios.Agents{Share: 0.5, Target: "edge"}, base.Shape, base.Mix},
		{"a rate has its own shape", scenarios.Agents{Rate: 25, Target: "edge"}, shape.Constant(25), base.Mix},
		{"a direct call is all of the mix", scenarios.Agents{Rate: 25, Target: "inventory-management/GetStock"}, shape.Constant(25), map[string]int{"inventory-management/GetStock": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := json.Marshal(Plan{Version: Version, Part: Part{To: 1, Of: 3}, Hosts: []string{"shop"}, Traffic: TrafficOf(base, c.group)})
			require.NoError(t, err)
			p, err := ReadPlan(raw, 2)
			require.NoError(t, err)
			require.Equal(t, 2, p.Part.Index)
			got, err := p.Traffic.Scenario()
			require.NoError(t, err)
			require.Equal(t, c.mix, got.Mix)
			for at := time.Duration(0); at < 3*time.Minute; at += 777 * time.Millisecond {
				require.Equal(t, c.rates.Rate(at), got.Rates().Rate(at), at)
			}
		})
	}
}

func TestAPlanThatCannotBeMeantIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		raw   string
		index int
		want  string
	}{
		"no JSON":                   {"{", 0, "read the plan"},
		"another version":           {`{"version": 99}`, 0, "version 99"},
		"an index of no agent":      {`{"version": 1, "part": {"to": 1, "of": 2}, "hosts": ["x"]}`, 2, "there is no part 2 of 2"},
		"a part of nothing":         {`{"version": 1, "part": {"from": 1, "to": 1, "of": 2}, "hosts": ["x"]}`, 0, "there is no part"},
		"nowhere that it may go to": {`{"version": 1, "part": {"to": 1, "of": 2}}`, 0, "no host"},
	} {
		_, err := ReadPlan([]byte(c.raw), c.index)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestAChangeIsTakenBeforeItsInstantOnly(t *testing.T) {
	now := Timeline{Join: 5, Scales: []Scale{{10, 1}, {20, 2}}}
	for name, c := range map[string]struct {
		next Timeline
		at   int64
		want error
	}{
		"a change ahead":              {Timeline{5, []Scale{{10, 1}, {20, 2}, {30, 0}}}, 29, nil},
		"a change that is due":        {Timeline{5, []Scale{{10, 1}, {20, 2}, {30, 0}}}, 30, ErrTooLate},
		"the same again":              {now, 1000, nil},
		"another past":                {Timeline{5, []Scale{{10, 3}, {20, 2}}}, 15, ErrTooLate},
		"a change that is taken back": {Timeline{5, []Scale{{10, 1}}}, 25, ErrTooLate},
	} {
		got, err := now.Replace(c.next, c.at)
		require.ErrorIs(t, err, c.want, name)
		if c.want == nil {
			require.Equal(t, c.next, got, name)
		} else {
			require.Equal(t, now, got, name)
		}
	}
	_, err := now.Replace(Timeline{6, now.Scales}, 0)
	require.ErrorContains(t, err, "joins once")
	_, err = now.Replace(Timeline{5, []Scale{{10, 1}, {10, 2}}}, 0)
	require.ErrorContains(t, err, "out of order")
	require.Equal(t, []float64{0, 1, 1, 2}, []float64{now.ScaleAt(9), now.ScaleAt(10), now.ScaleAt(19), now.ScaleAt(1 << 40)})
}

// stream is n frames and an end.
func stream(t *testing.T, n int) []byte {
	t.Helper()
	var b []byte
	var err error
	for i := range n {
		f := Frame{Seq: uint64(i), Kind: Record, Payload: fmt.Appendf(nil, `{"seq":%d}`, i)}
		if i%3 == 2 {
			f = Frame{Seq: uint64(i), Kind: Beat}
		}
		b, err = AppendFrame(b, f)
		require.NoError(t, err)
	}
	b, err = AppendFrame(b, Frame{Seq: uint64(n), Kind: End, Payload: []byte("{}")})
	require.NoError(t, err)
	return b
}

func TestAStreamThatIsCutAtAnyByteGoesOnWithoutLossOrRepetition(t *testing.T) {
	whole := stream(t, 7)
	for cut := range whole {
		r := &Reader{}
		var got []string
		connection := whole[:cut]
		for ended := false; !ended; {
			in := bytes.NewReader(connection)
			for {
				f, err := r.Next(iotest.HalfReader(in))
				if err != nil {
					require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "cut at %d: %v", cut, err)
					break
				}
				got = append(got, string(f.Kind)+string(f.Payload))
				ended = f.Kind == End
			}
			connection = whole[r.Offset():]
		}
		require.Equal(t, []string{`R{"seq":0}`, `R{"seq":1}`, "B", `R{"seq":3}`, `R{"seq":4}`, "B", `R{"seq":6}`, "E{}"}, got, "cut at %d", cut)
		require.EqualValues(t, len(whole), r.Offset())
	}
}

func TestAnyByteThatIsWrongIsSeen(t *testing.T) {
	whole := stream(t, 2)
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		r, in := &Reader{}, bytes.NewReader(bad)
		var err error
		for err == nil {
			_, err = r.Next(in)
		}
		// a wrong length may also promise more than there is
		require.True(t, errors.Is(err, ErrFrame) || errors.Is(err, io.ErrUnexpectedEOF), "byte %d: %v", i, err)
		require.LessOrEqual(t, r.Offset(), int64(i), "byte %d is in no frame that was read", i)
	}
}

func TestAFrameThatIsMissingOrTooLongIsRefused(t *testing.T) {
	b, err := AppendFrame(nil, Frame{Seq: 1, Kind: Beat})
	require.NoError(t, err)
	_, err = (&Reader{}).Next(bytes.NewReader(b))
	require.ErrorContains(t, err, "frame 1 comes in the place of 0")
	_, err = AppendFrame(nil, Frame{Kind: Record, Payload: make([]byte, maxPayload+1)})
	require.ErrorContains(t, err, "too long")
}

func TestMergedHistogramsEqualTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	whole, merged := traffic.NewHistogram(), traffic.NewHistogram()
	for range 7 {
		own := traffic.NewHistogram()
		for range 1000 {
			v := 1 + rng.Int64N(int64(rng.ExpFloat64()*20_000)+1)
			require.NoError(t, own.RecordValue(v))
			require.NoError(t, whole.RecordValue(v))
		}
		text, err := EncodeHistogram(own)
		require.NoError(t, err)
		require.Less(t, len(text), maxPayload/2, "a summary fits a frame")
		back, err := DecodeHistogram(text)
		require.NoError(t, err)
		require.Zero(t, merged.Merge(back))
	}
	require.True(t, whole.Equals(merged))
	_, err := DecodeHistogram("no histogram")
	require.ErrorContains(t, err, "read the histogram")
}

func FuzzFrames(f *testing.F) {
	for n := range 4 {
		var b []byte
		for i := range n {
			b, _ = AppendFrame(b, Frame{Seq: uint64(i), Kind: Record, Payload: []byte(`{"seq":1}`)})
		}
		f.Add(b)
		f.Add(append(b, 0, 0, 0, 200, 1))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, in := &Reader{}, bytes.NewReader(raw)
		var again []byte
		for {
			frame, err := r.Next(in)
			if err != nil {
				break
			}
			if again, err = AppendFrame(again, frame); err != nil {
				t.Fatal(err)
			}
		}
		// what was read is what was written, to the byte, and nothing else
		if !bytes.Equal(again, raw[:r.Offset()]) {
			t.Fatalf("read %q as %q", raw[:r.Offset()], again)
		}
	})
}

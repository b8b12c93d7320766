package plot

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func figures(t testing.TB) map[string]Figure {
	t.Helper()
	s, err := scenarios.Load("mtls-rollout")
	require.NoError(t, err)
	spike := shape.Sum(shape.LaunchDay(1000, 5000, 200*time.Second), shape.Spike(0, 150, shape.Peak{At: 60 * time.Second, Rise: 2 * time.Second, Hold: 8 * time.Second, Fall: 5 * time.Second}))
	return map[string]Figure{
		"mtls-rollout": OfScenario(s),
		"spike":        OfShape("spike", shape.Named(spike, "a launch day & a spike of <150/s>"), 432, 200*time.Second),
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run the test with -update when this is meant")
}

func TestFiguresAreDrawnAsTheyWere(t *testing.T) {
	for name, f := range figures(t) {
		t.Run(name, func(t *testing.T) {
			var text, plain, svg bytes.Buffer
			require.NoError(t, f.Terminal(&text, Screen{Width: 100}))
			require.NoError(t, f.Terminal(&plain, Screen{Plain: true}))
			require.NoError(t, f.SVG(&svg))
			golden(t, name+".txt", text.Bytes())
			golden(t, name+".plain.txt", plain.Bytes())
			golden(t, name+".svg", svg.Bytes())
		})
	}
}

func TestADrawingFitsItsScreen(t *testing.T) {
	for _, f := range figures(t) {
		for _, width := range []int{0, 10, 40, 60, 80, 100, 160, 400} {
			for _, plain := range []bool{false, true} {
				var b bytes.Buffer
				require.NoError(t, f.Terminal(&b, Screen{Width: width, Plain: plain}))
				room := width
				if room == 0 {
					room = 80
				}
				for line := range strings.Lines(b.String()) {
					line = strings.TrimSuffix(line, "\n")
					if !strings.HasPrefix(line, "phase ") && !strings.Contains(line, "m") { // the table is as wide as it is
						require.LessOrEqual(t, utf8.RuneCountInString(line), max(room, narrowest), line)
					}
					require.Equal(t, strings.TrimRight(line, " "), line)
					for _, c := range line {
						require.True(t, !plain || c < 0x7f, "%q in %q", c, line)
					}
				}
			}
		}
	}
}

func TestAPictureIsWellFormedWhateverTheShapeIsCalled(t *testing.T) {
	for _, f := range figures(t) {
		f.Name = `<script>alert("1")</script> & 'co'`
		var b bytes.Buffer
		require.NoError(t, f.SVG(&b))
		require.NotContains(t, b.String(), "<script")
		d := xml.NewDecoder(&b)
		d.Strict = true
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
		}
	}
}

func TestAFiguresNumbersAgreeWithEachOther(t *testing.T) {
	for name, f := range figures(t) {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(f)
			require.NoError(t, err)
			var got struct {
				LastsNs                        int64
				Requests, Mean, Peak, Faster   float64
				RealMeanPerDay, RealPeakPerDay float64
				Phases                         []struct{ FromNs, LastsNs, Requests, Mean, Peak float64 }
				Samples                        []struct{ AtNs, Rate float64 }
			}
			require.NoError(t, json.Unmarshal(raw, &got))
			lasts := float64(got.LastsNs) / 1e9
			require.InEpsilon(t, got.Requests, got.Mean*lasts, 1e-9)
			require.InEpsilon(t, got.Mean*86400/432, got.RealMeanPerDay, 1e-9)
			require.InEpsilon(t, got.Peak*86400/432, got.RealPeakPerDay, 1e-9)
			require.Len(t, got.Samples, samples)
			sum := 0.0
			for _, s := range got.Samples {
				require.LessOrEqual(t, s.Rate, got.Peak*1.01)
				sum += s.Rate * lasts / samples
			}
			require.InEpsilon(t, got.Requests, sum, 1e-6)
			at := 0.0
			for _, p := range got.Phases {
				require.InDelta(t, at, p.FromNs, 1)
				at += p.LastsNs
				require.InEpsilon(t, p.Requests, p.Mean*p.LastsNs/1e9, 1e-9)
			}
		})
	}
	f := figures(t)["mtls-rollout"]
	var waits []float64
	for _, p := range f.Phases {
		waits = append(waits, p.Requests)
		require.Equal(t, p.Name != "verify", p.Judged, p.Name)
	}
	require.InDeltaSlice(t, []float64{6000, 6000, 6000, 6000, 500, 10000}, waits, 0.01, "as many as each phase waits for")
	require.InDelta(t, 80, f.Peak, 1, "twice a launch day's")
}

func TestAShapeWithoutRequestsOrTimeIsDrawnToo(t *testing.T) {
	for _, f := range []Figure{
		OfShape("silence", shape.Constant(0), 1, time.Minute), OfShape("nothing", shape.Constant(5), 1, 0), OfShape("a moment", shape.Constant(5), 1, 1),
	} {
		var b bytes.Buffer
		require.NoError(t, f.Terminal(&b, Screen{}))
		require.NoError(t, f.SVG(&b))
		require.NotContains(t, b.String(), "NaN")
		require.NotContains(t, b.String(), "Inf")
	}
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	require.Equal(t, []string{"0", "999", "1,000", "1,234,568"}, []string{count(0), count(999), count(1000), count(1234567.9)})
	require.Equal(t, []string{"0", "0.0579", "5", "25.5", "1,200"}, []string{rate(0), rate(5000. / 86400), rate(5), rate(25.46), rate(1200)})
	require.Equal(t, []string{"0s", "1m30s", "5m", "1h", "1h5m", "20ms"}, []string{
		clock(0), clock(90 * time.Second), clock(5 * time.Minute), clock(time.Hour), clock(65 * time.Minute), clock(20 * time.Millisecond),
	})
	for _, peak := range []float64{0, 1e-9, 0.3, 1, 7, 79, 80, 81, 1234567} {
		require.GreaterOrEqual(t, top(peak), peak)
		require.LessOrEqual(t, top(peak), max(1, 2.5*peak))
	}
	for _, lasts := range []time.Duration{0, 1, time.Second, time.Minute, time.Hour, 1000 * time.Hour} {
		require.LessOrEqual(t, len(ticks(lasts, 8)), 8, lasts)
	}
}

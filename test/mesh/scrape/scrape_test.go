package scrape

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// text is what a proxy prints, with the oddities that were met: a family told
// of twice, one whose heading lacks the _total of its samples, no last newline.
const text = `# HELP request_total Requests.
# TYPE request_total counter
request_total{direction="inbound",tls="true",authority="a\"b"} 3
request_total{direction="outbound",tls="no_identity"} 2
# TYPE response_latency_ms histogram
response_latency_ms_bucket{le="1"} 1
response_latency_ms_bucket{le="+Inf"} 2
response_latency_ms_count 2
response_latency_ms_sum 7.5
# HELP request_total Requests.
# TYPE request_total counter
request_total{direction="inbound",tls="no_identity",reason=""} 5
# TYPE route_requests counter
route_requests_total 1
# EOF
proxy_build_info{version="2.210.4"} 1`

func TestEachSampleKeepsTheNameItWasPrintedUnder(t *testing.T) {
	got, err := Parse([]byte(text))
	require.NoError(t, err)
	require.Equal(t, []string{
		"proxy_build_info", "request_total", "response_latency_ms_bucket", "response_latency_ms_count",
		"response_latency_ms_sum", "route_requests_total",
	}, got.Names())
	require.Equal(t, Samples{{"response_latency_ms_sum", map[string]string{}, 7.5}}, got.Match("response_latency_ms_sum"))
}

func TestSamplesAreFoundByTheirLabels(t *testing.T) {
	got, err := Parse([]byte(text))
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		labels []string
		sum    float64
	}{
		{"any labels", nil, 10},
		{"one label", []string{"direction=inbound"}, 8},
		{"two labels", []string{"direction=inbound", "tls=true"}, 3},
		{"a label that must be there", []string{"authority"}, 3},
		{"an empty label counts as none", []string{"reason"}, 0},
		{"no such value", []string{"tls=opaque"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.sum, got.Match("request_total", c.labels...).Sum()) })
	}
	require.Equal(t, []string{"no_identity", "true"}, got.Match("request_total").Values("tls"))
	require.Empty(t, got.Match("request_total").Values("reason"))
	require.Empty(t, got.Match("request"))
}

func TestWhatIsNoMetricIsAnError(t *testing.T) {
	_, err := Parse([]byte("<html>403 Forbidden</html>\n"))
	require.ErrorContains(t, err, "read metrics")
}

func FuzzParse(f *testing.F) {
	f.Add(text)
	f.Add("a{b=\"c\"} 1\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, s := range all {
			if s.Name == "" || s.Labels == nil {
				t.Fatalf("%q gives %+v", text, s)
			}
		}
	})
}

package report

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func observed(t *testing.T, name, phase string, data any) results.Probe {
	t.Helper()
	p, err := results.NewProbe(1, name, phase, data)
	require.NoError(t, err)
	return p
}

func TestWhatCapturesSawIsAddedUpByPhase(t *testing.T) {
	var d Data
	for _, seen := range []results.Wire{
		{Flows: []results.Flow{{Source: "a", Destination: "b", Kind: results.FlowTLS, Count: 4}, {Source: "a", Destination: "c", Port: 9090, Kind: "http2", Count: 2, Examples: []string{"a-1 > c-1"}}}},
		{Flows: []results.Flow{{Source: "a", Destination: "b", Kind: results.FlowTLS, Count: 3}, {Source: "a", Destination: "c", Kind: results.FlowTLS, Count: 5}, {Source: "b", Destination: "postgres", Kind: "postgresql", Count: 9, Exempt: "the database"}, {Source: "", Destination: "c", Count: 1}}},
	} {
		require.NoError(t, d.addProbe(observed(t, results.ProbeWire, "soak", seen)))
	}
	require.NoError(t, d.addProbe(observed(t, results.ProbeWire, "baseline", results.Wire{Flows: []results.Flow{{Source: "a", Destination: "b", Kind: results.FlowUnknown, Count: 1}}})))
	require.Len(t, d.Matrices, 2)
	m := d.Matrices[0]
	require.Equal(t, []MatrixCell{
		{Caller: "a", Callee: "b", State: cellEncrypted, Encrypted: 7},
		{Caller: "a", Callee: "c", State: cellMixed, Bad: true, Encrypted: 5, Plaintext: 2, Details: []string{"port 9090, http2", "a-1 > c-1"}},
		{Caller: "b", Callee: "postgres", State: cellExempt, Exempt: 9, Details: []string{"postgresql may be in the clear: the database"}},
	}, m.Cells)
	require.Equal(t, []string{"a", "b"}, m.Callers)
	require.Equal(t, []string{"b", "c", "postgres"}, m.Callees)
	require.Equal(t, cellUnclear, d.Matrices[1].Cells[0].State)
	v := newMatrixView(m)
	require.Len(t, v.Rows, 2)
	require.Equal(t, "a to c: mixed, 5 encrypted of 7 (port 9090, http2; a-1 > c-1)", v.Rows[0].Cells[1].Title)
	require.Equal(t, "nothing seen", v.Rows[1].Cells[0].Words)
}

func TestOfSeveralAttemptsOfAPairTheWorstCounts(t *testing.T) {
	yes, no := true, false
	var d Data
	require.NoError(t, d.addProbe(observed(t, results.ProbeAuthorisation, "soak", results.Authorisation{Attempts: []results.Attempt{
		{Caller: "a", Callee: "b", As: results.AsPlaintext, Allowed: &no, Got: results.GotOut}, {Caller: "a", Callee: "b", As: results.AsOwn, Allowed: &yes, Got: results.GotIn},
		{Caller: "a", Callee: "c", As: results.AsOwn, Allowed: &yes, Got: results.GotOut, Detail: "403"},
		{Caller: "b", Callee: "c", As: results.AsOwn, Allowed: &no, Got: results.GotOut}, {Caller: "b", Callee: "c", As: results.AsForeign, Allowed: &no, Got: results.GotIn},
		{Caller: "c", Callee: "a", As: results.AsOwn, Allowed: &no, Got: results.GotNoWord},
	}})))
	require.Equal(t, []MatrixCell{
		{Caller: "a", Callee: "b", State: cellLetIn, Details: []string{"plaintext: refused", "own: let in"}},
		{Caller: "a", Callee: "c", State: cellShutOut, Bad: true, Details: []string{"own: refused, but may: 403"}},
		{Caller: "b", Callee: "c", State: cellIntruded, Bad: true, Details: []string{"own: refused", "foreign: let in, but may not"}},
		{Caller: "c", Callee: "a", State: cellUnclear, Details: []string{"own: unclear"}},
	}, d.Matrices[0].Cells)
	require.Error(t, d.addProbe(results.Probe{Probe: results.ProbeAuthorisation, Data: json.RawMessage(`[]`)}))
}

func TestTheProxiesCountStandsWhereNobodyLookedAtTheWire(t *testing.T) {
	p, err := results.NewProbe(1, results.ProbeMTLS, "soak", results.MTLS{Phase: "soak", TLS: 5, Plain: 2, ByService: map[string]results.Calls{"b": {TLS: 5}, "a": {Plain: 2}}})
	require.NoError(t, err)
	var d Data
	require.NoError(t, d.addProbe(p))
	require.NoError(t, d.addProbe(p))
	require.Len(t, d.Matrices, 1, "the last of a phase")
	require.Equal(t, []string{"a", "b"}, d.Matrices[0].Callees)
	require.True(t, d.Matrices[0].Cells[0].Bad)
	require.Equal(t, cellEncrypted, d.Matrices[0].Cells[1].State)
}

func TestCertificatesOfProxiesAreReadAndKeptOnce(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 5, day, 0, 0, 0, 0, time.UTC) }
	got := certificatesOf(observed(t, results.ProbeIdentity, "soak", results.Identity{Presented: []results.Presented{
		{Pod: "a-1", Identity: "a.prod-app", From: at(1), Until: at(2)}, {Pod: "b-1"},
	}}))
	require.Equal(t, []Certificate{{Name: "a-1", NotBefore: at(1), NotAfter: at(2), Detail: "a.prod-app"}}, got)
	all := newest([]Certificate{{Name: "a-1", NotAfter: at(2)}}, append(got, Certificate{Name: "a-1", NotAfter: at(3)}))
	require.Len(t, all, 2, "a renewed certificate is another")
	require.Equal(t, "a.prod-app", all[0].Detail)

	d := Data{Run: results.Run{StartedAt: at(1), EndedAt: at(1).Add(10 * time.Minute)}, Certificates: []Certificate{
		{Name: "root", NotBefore: at(1).AddDate(-1, 0, 0), NotAfter: at(1).AddDate(9, 0, 0)}, {Name: "ended", NotAfter: at(1).Add(time.Minute)},
		{Name: "issuer", NotBefore: at(1), NotAfter: at(31), Renewal: at(24)},
	}}
	a := newAxis(d)
	require.Len(t, a.Rows, 3)
	require.True(t, a.Rows[1].Ended)
	require.True(t, a.Rows[1].Open, "nobody said when it began")
	require.NotEmpty(t, a.Rows[2].Renewal)
	require.Contains(t, a.Rows[2].Words, "from 2026-05-01 00:00 UTC, ends 2026-05-31 00:00 UTC, renewed from 2026-05-24 00:00 UTC")
	require.Nil(t, newAxis(Data{}))
}

func TestAFigureIsDrawnWithItsIntervalAndItsMargin(t *testing.T) {
	end := func(v float64) *float64 { return &v }
	g := newGauge(&results.Figure{Unit: "ms", Value: 50, Low: end(40), High: end(60), Limit: 100})
	require.Equal(t, gauge{
		Value: "48", Low: "38.4", High: "57.6", Wide: "19.2", Limit: "96", AllowedX: "0", AllowedWide: "96", Margin: "40 ms to spare", Inside: true,
		Words: "50 ms (95 %: 40 ms to 60 ms), 40 ms to spare",
	}, *g)
	g = newGauge(&results.Figure{Unit: "ms", Value: 90, Low: end(80), High: end(110), Limit: 100})
	require.False(t, g.Inside)
	require.Equal(t, "10 ms over", g.Margin, "the interval's worse end counts")
	g = newGauge(&results.Figure{Unit: "ratio", Value: 1, Low: end(0.9996), Limit: 0.9995, AtLeast: true})
	require.Equal(t, "0", g.Value, "shares are drawn by what is missing")
	require.Equal(t, "0.01 % to spare", g.Margin)
	require.Contains(t, g.Words, "100 % (95 %: at least 99.96 %)")
	g = newGauge(&results.Figure{Unit: "requests", Value: 0, Limit: 0})
	require.Equal(t, "none allowed, none seen", g.Margin)
	require.Equal(t, "0", g.Limit)
	require.Equal(t, "37 requests over", newGauge(&results.Figure{Unit: "requests", Value: 37, Limit: 0}).Margin)
	require.Nil(t, newGauge(nil))
}

func TestTheTwinsAreBoiledDownToPercentiles(t *testing.T) {
	seen := results.AddedLatency{PayloadBytes: 512, PerHop: true}
	for i := range 1000 {
		v := float64(i+1) / 100
		seen.Samples.Plain = append(seen.Samples.Plain, v)
		seen.Samples.Meshed = append(seen.Samples.Meshed, v+1)
		seen.Samples.PlainAgain = append(seen.Samples.PlainAgain, v)
	}
	p, err := results.NewProbe(1, results.ProbeAddedLatency, "verify", seen)
	require.NoError(t, err)
	a, err := addedOf(p)
	require.NoError(t, err)
	require.Equal(t, 1000, a.Triples)
	require.Equal(t, 0.999, a.Points[len(a.Points)-1].Quantile)
	v, ok := newAddedView(a)
	require.True(t, ok)
	require.Equal(t, "512 bytes, per hop", v.Title)
	ofPages := a
	ofPages.PerHop, ofPages.PayloadBytes, ofPages.Path = false, 0, "GET /api/catalog/products/p-0001: product-catalog > inventory-management"
	pages, ok := newAddedView(ofPages)
	require.True(t, ok)
	require.Equal(t, "GET /api/catalog/products/p-0001: product-catalog > inventory-management, per request", pages.Title)
	require.Equal(t, "p50", v.Rows[0].Name)
	require.InDelta(t, 5, v.Rows[0].Plain, 1e-9)
	require.InDelta(t, 1, v.Rows[0].Added, 1e-9)
	require.Zero(t, v.Rows[0].Noise)
	seen.Samples.Plain, seen.Samples.Meshed, seen.Samples.PlainAgain = seen.Samples.Plain[:100], seen.Samples.Meshed[:100], seen.Samples.PlainAgain[:100]
	p, err = results.NewProbe(1, results.ProbeAddedLatency, "verify", seen)
	require.NoError(t, err)
	few, err := addedOf(p)
	require.NoError(t, err)
	require.Equal(t, 0.99, few.Points[len(few.Points)-1].Quantile, "a percentile that no sample lies beyond is not drawn")
	_, ok = newAddedView(Added{Triples: 3})
	require.False(t, ok)
}

func TestASingleRequestIsShownWithItsWay(t *testing.T) {
	c := results.Cause{Requests: []results.CauseRequest{{
		Seq: 7, ScheduledMs: 61_042.5, Route: "order", Hop: "order-processing>payment-gateway", Pod: "payment-gateway-1",
		Way: "order-processing-1@worker/v1:10000(inventory-management:1000:2000=inventory-management-1@worker2/v2:1500(postgres:100:900),payment-gateway:4000:5000!14*2)",
	}, {Seq: 8, Way: "damaged("}}}
	all := requestsOf(c)
	require.Equal(t, "1:01.042", all[0].At)
	require.Equal(t, "order-processing>payment-gateway (payment-gateway-1)", all[0].Where)
	require.Equal(t, []hopView{
		{Service: "order-processing", Where: "order-processing-1 on worker, v1", Took: "10.0", Own: "10.0", From: "0", Wide: "100", Attempts: 1, HasAnswer: true},
		{Depth: 1, Service: "inventory-management", Where: "inventory-management-1 on worker2, v2", Took: "2.00", Own: "1.50", From: "10", Wide: "20", Attempts: 1, HasAnswer: true},
		{Depth: 2, Service: "postgres", Took: "0.90", Own: "–", From: "11", Wide: "9", Attempts: 1},
		{Depth: 1, Service: "payment-gateway", Took: "5.00", Own: "–", Failed: "Unavailable", From: "40", Wide: "50", Attempts: 2},
	}, all[0].Hops)
	require.Empty(t, all[1].Hops)
}

func TestWhatHappenedInTheClusterStandsInRows(t *testing.T) {
	pod := func(at time.Duration, name, state string) results.Event {
		return results.Event{At: int64(at), Kind: results.Pod, Name: name, Fields: map[string]string{results.FieldState: state}}
	}
	c := drawn(busy(100), func(d *Data) {
		d.Events = []results.Event{
			pod(10*time.Second, "a", results.StateTerminating), pod(10*time.Second+1, "b", results.StateTerminating), pod(20*time.Second, "a", results.StateGone),
			pod(30*time.Second, "c", results.StateOOMKilled), {At: 1e9, Kind: results.Warning, Name: "d", Detail: "FailedMount: x"},
		}
	})
	require.Equal(t, []string{"deaths", "stops", "warnings"}, []string{c.MarkRows[0].Label, c.MarkRows[1].Label, c.MarkRows[2].Label})
	require.Len(t, c.Marks, 3)
	require.True(t, c.Marks[0].Grave)
	require.Equal(t, "0:10: a terminating; b terminating", c.Marks[1].Title)
	require.Equal(t, "0:01: d: FailedMount: x", c.Marks[2].Title)
}

func TestWhatVaultAndWebhooksWereAskedForIsRead(t *testing.T) {
	var d Data
	for _, p := range []results.Probe{
		observed(t, results.ProbeVaultAudit, "soak", results.VaultAudit{Requests: 7}),
		observed(t, results.ProbeVaultRotation, "soak", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a"}}}),
		observed(t, results.ProbeWebhooks, "inject", results.Webhooks{Phase: "inject"}),
		observed(t, results.ProbeWebhooks, "soak", results.Webhooks{Phase: "soak"}),
	} {
		require.NoError(t, d.addProbe(p))
	}
	require.Equal(t, int64(7), d.Audit.Requests)
	require.Equal(t, "a", d.Rotation.Secrets[0].Path)
	require.Equal(t, []results.Webhooks{{Phase: "inject"}, {Phase: "soak"}}, d.Webhooks)
}

func TestVaultAndWebhooksHaveRowsOfTheirOwn(t *testing.T) {
	vault := func(at time.Duration, name, detail, state, role string) results.Event {
		return results.Event{At: int64(at), Kind: results.Vault, Name: name, Detail: detail, Fields: map[string]string{results.FieldState: state, results.FieldRole: role}}
	}
	c := drawn(busy(100), func(d *Data) {
		d.Events = []results.Event{
			vault(10*time.Second, "read secret/data/a", "", results.StateServed, "order-processing"),
			vault(20*time.Second, "update pki/sign/x", "permission denied", results.StateDenied, "cert-manager"),
			{At: 30e9, Kind: results.Webhook, Name: "injector", Detail: "could not be called", Fields: map[string]string{results.FieldState: results.StateFailedOpen}},
			{At: 31e9, Kind: results.Webhook, Name: "product-catalog-1", Detail: "Injected: x"},
		}
	})
	require.Equal(t, []string{"refusals", "webhooks", "Vault"}, []string{c.MarkRows[0].Label, c.MarkRows[1].Label, c.MarkRows[2].Label})
	require.Len(t, c.Marks, 3, "what the injector did as it should is no mark")
	require.Equal(t, []bool{true, true, false}, []bool{c.Marks[0].Grave, c.Marks[1].Grave, c.Marks[2].Grave})
	require.Equal(t, "0:20: Vault update pki/sign/x by cert-manager: permission denied", c.Marks[0].Title)
	require.Equal(t, "0:30: injector failed-open: could not be called", c.Marks[1].Title)
	require.Equal(t, "0:10: Vault read secret/data/a by order-processing", c.Marks[2].Title)
}

func TestAHeatMapShadesByTheShareOfItsBucket(t *testing.T) {
	require.Equal(t, heatLevels-1, shade(1))
	require.Equal(t, 0, shade(0.0001))
	require.Less(t, shade(0.01), shade(0.2))
	line := results.Timeline{BucketMs: 1000, HeatMs: []float64{1, 10, 100}, Buckets: []results.Bucket{{Requests: 100, Heat: []int64{0, 99, 0, 1}}, {}}}
	same := func(v float64) float64 { return latencyBottom - v }
	paths := heat(line, func(ms int64) float64 { return float64(ms) / 10 }, same)
	require.Len(t, paths, heatLevels)
	require.Equal(t, "M0 204H100V213H0Z", paths[heatLevels-1])
	require.NotEmpty(t, paths[shade(0.01)])
	require.Nil(t, heat(results.Timeline{}, nil, nil))
}

func FuzzEvidence(f *testing.F) {
	f.Add(`{"pairs":[{"caller":"a","callee":"b","encrypted":7,"plaintext":-1,"examples":[1,"x"]}]}`)
	f.Add(`{"x":[{"name":"a","notBefore":"2026-05-01T00:00:00Z","notAfter":"9999-12-31T00:00:00Z"}],"samples":{"plain":[1],"meshed":[2],"plainAgain":[1e308]}}`)
	f.Fuzz(func(t *testing.T, data string) {
		d := Data{Run: results.Run{StartedAt: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}}
		for _, name := range []string{"wire", results.ProbeMTLS, results.ProbeIssuer, results.ProbeLeaves, results.ProbeAddedLatency} {
			_ = d.addProbe(results.Probe{Probe: name, Data: json.RawMessage(data)})
		}
		page := render(t, HTML, d)
		require.NotContains(t, page, "NaN")
		require.NotContains(t, page, "ZgotmplZ")
	})
}

package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// lines writes every value as name{labels} value, without zeros and buckets.
func lines(t *testing.T, r *Registry) []string {
	t.Helper()
	all, err := r.Gather()
	require.NoError(t, err)
	var out []string
	for _, f := range all {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out = append(out, fmt.Sprintf("%s{%s} %g", f.GetName(), strings.Join(labels, ","), v))
		}
	}
	return out
}

func inboundPeer() Peer {
	return Peer{
		Direction: Inbound, TargetIP: "10.1.0.1", TargetPort: 9090, TLS: TLSTrue, ClientID: "web",
		Srv: policy.Ref{Kind: "default", Name: "all-authenticated"}, Authz: policy.Ref{Kind: "default", Name: "all-authenticated"},
	}
}

func TestInboundSeriesHaveTheLabelsOfTheContract(t *testing.T) {
	r := New(Info{Version: "v", Started: time.Unix(5, 0)})
	h := r.HTTP(&Flow{Peer: inboundPeer(), Authority: "shop", Route: policy.Ref{Kind: "default", Name: "probe"}})
	h.Request()
	h.Response(Response{Status: 200, GRPCStatus: "14"}, 3*time.Millisecond)
	labels := "direction=inbound,target_addr=10.1.0.1:9090,target_ip=10.1.0.1,target_port=9090,tls=true,client_id=web," +
		"srv_kind=default,srv_name=all-authenticated,authz_kind=default,authz_name=all-authenticated,authority=shop,route_kind=default,route_name=probe"
	got := lines(t, r)
	require.Contains(t, got, "request_total{"+labels+"} 1")
	require.Contains(t, got, "response_total{"+labels+",status_code=200,classification=failure,grpc_status=14} 1")
	require.Contains(t, got, "response_latency_ms{"+labels+",status_code=200} 1")
	require.Contains(t, got, "process_start_time_seconds{} 5")
	require.Contains(t, got, "proxy_build_info{version=v,vendor=fakemesh} 1")
}

func TestOutboundSeriesNameWhereTheTrafficGoes(t *testing.T) {
	r := New(Info{})
	h := r.HTTP(&Flow{Peer: Peer{
		Direction: Outbound, TargetIP: "10.1.0.2", TargetPort: 80, TLS: TLSNoIdentity, NoTLSReason: ReasonNotProvided,
		Dst: Dst{Namespace: "prod-app", Service: "web", Pod: "web-1", ServiceAccount: "sa", OwnerKind: "deployment", OwnerName: "web"},
	}})
	h.Request()
	require.Contains(t, lines(t, r), "request_total{direction=outbound,target_addr=10.1.0.2:80,target_ip=10.1.0.2,target_port=80,tls=no_identity,"+
		"no_tls_reason=not_provided_by_service_discovery,dst_namespace=prod-app,dst_service=web,dst_pod=web-1,dst_serviceaccount=sa,dst_deployment=web} 1")
}

func TestWhatCountsAsFailure(t *testing.T) {
	for res, want := range map[Response]bool{
		{Status: 200}: false, {Status: 404}: false, {Status: 500}: true, {Status: 403, Error: "unauthorized"}: true,
		{Status: 200, GRPCStatus: "0"}: false, {Status: 200, GRPCStatus: "5"}: false, {Status: 200, GRPCStatus: "9"}: false,
		{Status: 200, GRPCStatus: "2"}: true, {Status: 200, GRPCStatus: "4"}: true, {Status: 200, GRPCStatus: "7"}: true,
		{Status: 200, GRPCStatus: "13"}: true, {Status: 200, GRPCStatus: "14"}: true, {Status: 200, GRPCStatus: "15"}: true,
	} {
		require.Equal(t, want, res.Failure(), "%+v", res)
	}
}

func TestLatencyGoesIntoTheBucketsOfLinkerd(t *testing.T) {
	h := &histogram{}
	for _, ms := range []float64{0.5, 1, 1.5, 100, 150, 250, 60000} {
		h.observe(ms)
	}
	m := h.metric().Histogram
	got := map[float64]uint64{}
	for _, b := range m.Bucket {
		got[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	require.Equal(t, map[float64]uint64{
		1: 2, 2: 3, 3: 3, 4: 3, 5: 3, 10: 3, 20: 3, 30: 3, 40: 3, 50: 3, 100: 4, 200: 5, 300: 6, 400: 6, 500: 6,
		1000: 6, 2000: 6, 3000: 6, 4000: 6, 5000: 6, 10000: 6, 20000: 6, 30000: 6, 40000: 6, 50000: 6,
	}, got)
	require.EqualValues(t, 7, m.GetSampleCount())
	require.InDelta(t, 60503, m.GetSampleSum(), 0.1)
}

func TestIdleSeriesAreDroppedAndOpenConnectionsAreNot(t *testing.T) {
	now := time.Unix(10000, 0)
	r := New(Info{now: func() time.Time { return now }})
	r.HTTP(&Flow{Peer: inboundPeer()}).Request()
	open, ended := r.TCP(inboundPeer(), "src"), r.TCP(inboundPeer(), "dst")
	open.Open()
	ended.Open()
	ended.Close("ECONNRESET")
	text := strings.Join(lines(t, r), "\n")
	require.Contains(t, text, "errno=ECONNRESET")
	now = now.Add(11 * time.Minute)
	text = strings.Join(lines(t, r), "\n")
	require.NotContains(t, text, "request_total")
	require.NotContains(t, text, "peer=dst")
	require.Contains(t, text, "peer=src")
}

func TestWhatClientsMakeUpCannotFillTheMemory(t *testing.T) {
	r := New(Info{})
	for i := range 3 * maxSeries {
		p := inboundPeer()
		p.TargetPort = uint16(i)
		r.HTTP(&Flow{Peer: p, Authority: r.Authority(fmt.Sprint(i))}).Request()
	}
	require.LessOrEqual(t, len(r.http.m), maxSeries+1)
	require.LessOrEqual(t, len(r.authorities), maxAuthorities+1)
	var total float64
	all, err := r.Gather()
	require.NoError(t, err)
	for _, f := range all {
		if f.GetName() == "request_total" {
			for _, m := range f.Metric {
				total += m.GetCounter().GetValue()
			}
		}
	}
	require.EqualValues(t, 3*maxSeries, total, "none is lost")
}

func TestEndpointsOfABalancerAreThoseOfTheMomentUntilItIsGone(t *testing.T) {
	r := New(Info{})
	b := Balancer{Namespace: "prod-app", Service: "web", Port: 80}
	ready, pending := 3, 1
	r.Balance(b, func() (int, int) { return ready, pending })
	labels := "parent_group=core,parent_kind=Service,parent_namespace=prod-app,parent_name=web,parent_port=80," +
		"backend_group=core,backend_kind=Service,backend_namespace=prod-app,backend_name=web,backend_port=80"
	require.Subset(t, lines(t, r), []string{
		"outbound_http_balancer_endpoints{" + labels + ",endpoint_state=ready} 3",
		"outbound_http_balancer_endpoints{" + labels + ",endpoint_state=pending} 1",
	})
	ready = 0
	require.Contains(t, lines(t, r), "outbound_http_balancer_endpoints{"+labels+",endpoint_state=ready} 0")
	r.Balance(b, nil)
	require.NotContains(t, strings.Join(lines(t, r), "\n"), "balancer")
}

func TestCallsToTheControlPlaneAreCountedByWhereTheyGo(t *testing.T) {
	r := New(Info{})
	h := r.Control(Control{Addr: "linkerd-dst-headless:8086", ServerID: "linkerd-destination"})
	h.Request()
	h.Response(Response{Status: 200, GRPCStatus: "14"}, 2*time.Millisecond)
	labels := "addr=linkerd-dst-headless:8086,server_id=linkerd-destination"
	require.Subset(t, lines(t, r), []string{
		"control_request_total{" + labels + "} 1",
		"control_response_total{" + labels + ",status_code=200,classification=failure,grpc_status=14} 1",
		"control_response_latency_ms{" + labels + ",status_code=200} 1",
	})
}

func TestErrorsAreCountedByKind(t *testing.T) {
	r := New(Info{})
	r.Error(Outbound, "failfast").Inc()
	r.Error(Inbound, "unauthorized").Inc()
	r.TCPError(Inbound, "loadshed").Add(7)
	require.Subset(t, lines(t, r), []string{
		"outbound_http_errors_total{error=failfast} 1", "inbound_http_errors_total{error=unauthorized} 1",
		"inbound_tcp_errors_total{error=loadshed} 7",
	})
}

func BenchmarkCountARequest(b *testing.B) {
	r := New(Info{})
	f := Flow{Peer: inboundPeer(), Authority: "shop"}
	b.ReportAllocs()
	for b.Loop() {
		h := r.HTTP(&f)
		h.Request()
		h.Response(Response{Status: 200}, time.Millisecond)
	}
}

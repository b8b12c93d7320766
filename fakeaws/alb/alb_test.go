package alb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheBalancerFollowsTheClustersNodes(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2")
	var sick atomic.Bool
	for i, name := range []string{"a", "b"} {
		serveOn(t, doors[i], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" && name == "b" && sick.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = io.WriteString(w, name)
		}))
	}
	ctx := t.Context()
	s := start(t, nil)
	status, body := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 404, status, "no ingress yet")
	require.Empty(t, body)

	_, err := s.client.CoreV1().Services("prod-app").Create(ctx, testService("shop", testPort("http", 8080, port)), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.client.NetworkingV1().Ingresses("prod-app").Create(ctx, restIngress(quick), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(s.Groups()) == 1 }, 5*time.Second, 5*time.Millisecond)
	status, _ = get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 503, status, "no node yet")

	nodes := s.client.CoreV1().Nodes()
	for i, name := range []string{"a", "b"} {
		_, err := nodes.Create(ctx, testNode(name, fmt.Sprintf("127.0.0.%d", i+1)), metav1.CreateOptions{})
		require.NoError(t, err)
		s.awaitHealth(t, name, "healthy")
	}
	require.Equal(t, map[string]int{"a": 3, "b": 3}, s.spread(t, 6))

	sick.Store(true)
	s.awaitHealth(t, "b", "unhealthy")
	require.Equal(t, map[string]int{"a": 4}, s.spread(t, 4))
	sick.Store(false)
	s.awaitHealth(t, "b", "healthy")
	require.Equal(t, map[string]int{"a": 2, "b": 2}, s.spread(t, 4))

	cordoned := testNode("a", "127.0.0.1")
	cordoned.Spec.Unschedulable = true
	_, err = nodes.Update(ctx, cordoned, metav1.UpdateOptions{})
	require.NoError(t, err)
	s.awaitHealth(t, "a", "draining")
	require.Equal(t, map[string]int{"b": 4}, s.spread(t, 4))
	s.awaitHealth(t, "a", "none")
	require.NoError(t, nodes.Delete(ctx, "b", metav1.DeleteOptions{}))
	s.awaitHealth(t, "b", "draining")
	status, _ = get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 503, status, "a target that drains takes nothing new, not even as the last one")

	require.NoError(t, s.client.NetworkingV1().Ingresses("prod-app").Delete(ctx, "rest", metav1.DeleteOptions{}))
	require.Eventually(t, func() bool { return len(s.Groups()) == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestPodsAreTargets(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	for i, door := range doors {
		serveOn(t, door, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, string(rune('a'+i))) }))
	}
	node := testNode("node-1", "127.0.0.9")
	node.Labels["topology.kubernetes.io/zone"] = "us-east-1b"
	pods := []pod{
		{name: "shop-a", ip: "127.0.0.1", node: "node-1", ready: true},
		{name: "shop-b", ip: "127.0.0.2", node: "node-1", ready: true},
		{name: "shop-c", ip: "127.0.0.3", node: "node-1"},               // not ready
		{name: "shop-d", ip: "127.0.0.4", node: "node-1", ending: true}, // being deleted
	}
	s := start(t, nil, restIngress(toPods()), testService("shop", testPort("http", 8080, 0)), node, podsOf("http", port, pods...))
	s.awaitHealth(t, "shop-a", "healthy")
	s.awaitHealth(t, "shop-b", "healthy")
	require.Equal(t, map[string]int{"a": 3, "b": 3}, s.spread(t, 6))
	g := s.Groups()[0]
	require.Equal(t, IPTargets, g.TargetType)
	require.Equal(t, "prod-app/rest/shop:8080", g.Group)
	require.Equal(t, []Target{
		{Address: fmt.Sprintf("127.0.0.1:%d", port), Pod: "shop-a", Node: "node-1", Zone: "us-east-1b", Health: "healthy"},
		{Address: fmt.Sprintf("127.0.0.2:%d", port), Pod: "shop-b", Node: "node-1", Zone: "us-east-1b", Health: "healthy"},
	}, g.Targets)

	pods[2].ready = true
	s.setPods(t, podsOf("http", port, pods...))
	s.awaitHealth(t, "shop-c", "healthy")
	require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, s.spread(t, 6))
}

// A pod that is being terminated keeps what it has and gets nothing new.
func TestATerminatingPodEndsItsRequestsAndGetsNoNewOnes(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1", "127.0.0.2")
	arrived, release := make(chan string, 8), make(chan struct{})
	for i, name := range []string{"a", "b"} {
		serveOn(t, doors[i], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/slow" {
				arrived <- name
				<-release
			}
			_, _ = io.WriteString(w, name)
		}))
	}
	a, b := pod{name: "shop-a", ip: "127.0.0.1", ready: true}, pod{name: "shop-b", ip: "127.0.0.2", ready: true}
	notes := toPods("target-group-attributes", "deregistration_delay.timeout_seconds=30")
	s := start(t, nil, restIngress(notes), testService("shop", testPort("http", 8080, 0)), podsOf("http", port, a, b))
	s.awaitHealth(t, "shop-a", "healthy")
	s.awaitHealth(t, "shop-b", "healthy")

	type reply struct {
		status int
		body   string
	}
	slow := make(chan reply, 2)
	for range 2 { // one to each
		go func() {
			status, body := get(t, "http://"+s.http+"/api/slow")
			slow <- reply{status, body}
		}()
	}
	require.ElementsMatch(t, []string{"a", "b"}, []string{<-arrived, <-arrived})

	a.ready, a.ending = false, true
	s.setPods(t, podsOf("http", port, a, b))
	s.awaitHealth(t, "shop-a", "draining")
	require.Equal(t, map[string]int{"b": 10}, s.spread(t, 10))
	require.Equal(t, int64(1), s.Groups()[0].Targets[1].UnderWay, "its request is still under way")
	close(release)
	require.ElementsMatch(t, []reply{{200, "a"}, {200, "b"}}, []reply{<-slow, <-slow})
	require.Equal(t, "draining", s.healthOf("shop-a"), "until the delay is over, as AWS shows it")
}

func TestARequestThatOutlivesTheDeregistrationDelayIsCut(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	arrived := make(chan struct{}, 2)
	notes := toPods("target-group-attributes", "deregistration_delay.timeout_seconds=1")
	s := onePod(t, nil, notes, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/silent":
		case "/api/begun":
			_, _ = io.WriteString(w, "first half")
			_ = http.NewResponseController(w).Flush()
		default:
			return
		}
		arrived <- struct{}{}
		<-release
	})
	begun, err := http.Get("http://" + s.http + "/api/begun")
	require.NoError(t, err)
	defer begun.Body.Close()
	<-arrived
	silent := make(chan int, 1)
	go func() {
		status, _ := get(t, "http://"+s.http+"/api/silent")
		silent <- status
	}()
	<-arrived
	s.setPods(t, podsOf("http", 1)) // the pod has gone from the endpoints

	require.Equal(t, 502, <-silent)
	body, err := io.ReadAll(begun.Body)
	require.Equal(t, "first half", string(body))
	require.Error(t, err, "an answer that has begun is broken off")
	for _, e := range s.lastEntries(t, 2) {
		switch e["request"] {
		case "GET http://" + s.http + "/api/silent HTTP/1.1":
			require.Equal(t, []string{"502", "-", "-1"}, []string{e["elb_status_code"], e["target_status_code"], e["target_processing_time"]})
		default:
			require.Equal(t, []string{"200", "200"}, []string{e["elb_status_code"], e["target_status_code"]})
		}
	}
	require.Eventually(t, func() bool { return s.healthOf("shop-a") == "none" }, 5*time.Second, 5*time.Millisecond)
	require.Contains(t, s.log.String(), "requests outlived the deregistration delay and were cut")
}

func TestConnectionsToTargetsAreKept(t *testing.T) {
	peers := make(chan string, 64)
	s := onePod(t, idleAfter(time.Second), toPods(), func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			peers <- r.RemoteAddr
		}
	})
	seen := map[string]bool{}
	for range 20 {
		status, _ := get(t, "http://"+s.http+"/api/x")
		require.Equal(t, 200, status)
		seen[<-peers] = true
	}
	require.Len(t, seen, 1, "twenty requests, one connection")
	time.Sleep(1500 * time.Millisecond) // longer than the idle timeout
	status, _ := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 200, status)
	require.NotContains(t, seen, <-peers, "an idle connection is closed and replaced")
}

func TestADeregisteredTargetLosesItsIdleConnectionsAtOnce(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1")
	door := &countedDoor{Listener: doors[0]}
	serveOn(t, door, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s := start(t, nil, restIngress(toPods("healthcheck-interval-seconds", "300")), testService("shop", testPort("http", 8080, 0)),
		podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	s.awaitHealth(t, "shop-a", "healthy")
	status, _ := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 200, status)
	require.Equal(t, int32(1), door.open.Load(), "it is kept for the next request")
	s.setPods(t, podsOf("http", port))
	s.awaitHealth(t, "shop-a", "draining")
	require.Eventually(t, func() bool { return door.open.Load() == 0 }, 5*time.Second, time.Millisecond)
}

// countedDoor counts the connections that are open.
type countedDoor struct {
	net.Listener
	open atomic.Int32
}

func (d *countedDoor) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	d.open.Add(1)
	return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { d.open.Add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// fakeWays reach nobody until they are mended.
type fakeWays struct{ mended atomic.Bool }

func (f *fakeWays) mend() { f.mended.Store(true) }

func (f *fakeWays) Keep([]*corev1.Node) error {
	if f.mended.Load() {
		return nil
	}
	return errors.New("operation not permitted")
}

func (f *fakeWays) Reaches(netip.Addr) bool { return f.mended.Load() }

func TestAnswersAreStreamed(t *testing.T) {
	next := make(chan struct{})
	s := onePod(t, nil, toPods(), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		if r.URL.Path != "/" {
			_ = http.NewResponseController(w).Flush()
			<-next
			_, _ = io.WriteString(w, "second\n")
		}
	})
	res, err := http.Get("http://" + s.http + "/api/stream")
	require.NoError(t, err)
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "first\n", line, "came while the answer was not finished")
	close(next)
	line, err = in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "second\n", line)
}

func TestAPodWithoutARouteIsToldAndNotTried(t *testing.T) {
	port, doors := listenOn(t, "127.0.0.1")
	var asked atomic.Int32
	serveOn(t, doors[0], http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	ways := &fakeWays{}
	s := start(t, func(b *Balancer) { b.watcher.pods = ways }, restIngress(toPods()), testService("shop", testPort("http", 8080, port)),
		testNode("node-1", "127.0.0.1"), podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	s.awaitHealth(t, "shop-a", "unused")
	status, _ := get(t, "http://"+s.http+"/api/x")
	require.Equal(t, 503, status, "and no way by the node's port instead")
	require.Zero(t, asked.Load())
	require.Contains(t, s.log.String(), "reach the cluster's pods: operation not permitted")
	require.Contains(t, s.log.String(), "there is no route to the pod")

	ways.mend()
	s.awaitHealth(t, "shop-a", "healthy")
	require.Equal(t, map[string]int{"": 3}, s.spread(t, 3))
}

func TestTheAdminPageSaysWhenItIsReady(t *testing.T) {
	b := New(Options{Log: slog.New(slog.DiscardHandler), Name: "shop", Region: "us-east-1", Account: "123456789012"})
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	require.Equal(t, 503, ask("/-/ready").Code)
	b.watcher.synced.Store(true)
	require.Equal(t, 200, ask("/-/ready").Code)
	require.JSONEq(t, "[]", ask("/-/targets").Body.String())
	ctx, cancel := context.WithCancel(t.Context())
	rules := map[Listener][]rule{HTTP: {newRule("", prefixPath, "/a", "k8s-ns-s-1", ""), newRule("", prefixPath, "/b", "k8s-ns-s-1", "")}}
	spec := groupSpec{Name: "k8s-ns-s-1", Key: "ns/i/s:80", Listener: HTTP, Type: InstanceTargets}
	b.table.apply(ctx, desired{rules: rules, groups: []desiredGroup{{spec, []endpoint{{IP: "10.0.0.1", Port: 80, Node: "a", Unusable: "no way"}}}}})
	cancel()
	b.table.wait()
	require.JSONEq(t, `[{"name":"k8s-ns-s-1","group":"ns/i/s:80","listener":"http","targetType":"instance","paths":["/a","/b"],
		"arn":"arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/k8s-ns-s-1/`+hash(16, "us-east-1", "123456789012", "k8s-ns-s-1")+`",
		"targets":[{"node":"a","address":"10.0.0.1:80","health":"unused","reason":"Target.IpUnusable",
			"description":"The IP address cannot be used as a target","detail":"no way","underWay":0}]}]`, ask("/-/targets").Body.String())
}

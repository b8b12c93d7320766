//go:build netns

package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Three network namespaces stand for two pods and the node between them, which
// forwards and follows. Run as root: go test -tags netns ./harness/agent/wire
const (
	nodeNS, callerNS, serverNS = "wire-node", "wire-caller", "wire-server"
	callerIP, serverIP         = "10.78.1.2", "10.78.2.2"
	roleEnv                    = "WIRE_TEST_ROLE"
	planted                    = "00-5eed5eed5eed5eed"
)

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleEnv); role {
	case "":
		os.Exit(m.Run())
	case "serve":
		err = serve()
	case "follow":
		err = follow()
	default:
		err = send(role)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve answers in the clear on 8080 and by TLS on 8443, with 500 bytes.
func serve() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 500))
	})
	go func() { log.Print(http.ListenAndServe(":8080", h)) }()
	s := &http.Server{Addr: ":8443", Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	return s.ListenAndServeTLS("", "")
}

func follow() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pods := []netip.Prefix{netip.MustParsePrefix("10.78.0.0/16")}
	enc := json.NewEncoder(os.Stdout)
	return Follow(ctx, FollowOptions{
		Options: Options{Networks: Networks{Pods: pods}, Needles: []Needle{{"run", []byte(planted)}}}, Node: "n1", Every: time.Second,
	}, func(s Snapshot) error { return enc.Encode(s) })
}

// send makes "N RATE URL" requests, N of them at RATE a second by at most 16
// connections, and prints how many were answered.
func send(role string) error {
	var n int
	var rate float64
	var url string
	if _, err := fmt.Sscan(role, &n, &rate, &url); err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "stock", NextProtos: []string{"http/1.1"}}, MaxConnsPerHost: 16, MaxIdleConnsPerHost: 16,
	}}
	var (
		mu       sync.Mutex
		answered int
		all      sync.WaitGroup
	)
	for i := range n {
		begun := time.Now()
		all.Go(func() {
			req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(bytes.Repeat([]byte("y"), 300)))
			if err != nil {
				log.Print(err)
				return
			}
			req.Header.Set("Traceparent", fmt.Sprintf("%s%016x-%016x-01", planted, i, i+1))
			res, err := client.Do(req)
			if err != nil {
				log.Print(err)
				return
			}
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			if err == nil && res.StatusCode == http.StatusOK {
				answered++
			}
		})
		time.Sleep(time.Until(begun.Add(time.Duration(float64(time.Second) / rate))))
	}
	all.Wait()
	client.CloseIdleConnections()
	fmt.Println(answered)
	return nil
}

func sh(t *testing.T, argv ...string) {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	require.NoError(t, err, "%v: %s", argv, out)
}

// in makes this program play a role in a namespace.
func in(t *testing.T, ns, role string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("ip", "netns", "exec", ns, self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// twoPodsAndANode links the namespaces.
func twoPodsAndANode(t *testing.T) {
	for _, ns := range []string{nodeNS, callerNS, serverNS} {
		_ = exec.Command("ip", "netns", "del", ns).Run()
		sh(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		sh(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	for i, pod := range []string{callerNS, serverNS} {
		node, gateway := "wirenode"+strconv.Itoa(i), fmt.Sprintf("10.78.%d.1", i+1)
		sh(t, "ip", "-n", pod, "link", "add", "eth0", "type", "veth", "peer", "name", node)
		sh(t, "ip", "-n", pod, "link", "set", node, "netns", nodeNS)
		sh(t, "ip", "-n", pod, "addr", "add", fmt.Sprintf("10.78.%d.2/24", i+1), "dev", "eth0")
		sh(t, "ip", "-n", pod, "link", "set", "eth0", "up")
		sh(t, "ip", "-n", nodeNS, "addr", "add", gateway+"/24", "dev", node)
		sh(t, "ip", "-n", nodeNS, "link", "set", node, "up")
		sh(t, "ip", "-n", pod, "route", "add", "default", "via", gateway)
	}
	sh(t, "ip", "netns", "exec", nodeNS, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
}

// snapshots collects what a capture in the node's namespace tells, until stop.
func snapshots(t *testing.T) (stop func() []Snapshot) {
	t.Helper()
	cmd := in(t, nodeNS, "follow")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	start(t, cmd)
	lines := bufio.NewReader(out)
	var all []Snapshot
	next := func() bool {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return false
		}
		var s Snapshot
		require.NoError(t, json.Unmarshal(line, &s))
		all = append(all, s)
		return true
	}
	require.True(t, next(), "it follows")
	return func() []Snapshot {
		time.Sleep(2500 * time.Millisecond) // two more
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		for next() {
		}
		for i, s := range all {
			require.Equal(t, i+1, s.Seq)
		}
		return all
	}
}

// rowsByPort adds up a port's rows.
func rowsByPort(all []Snapshot, port uint16) (sum Row) {
	for _, s := range all {
		for _, r := range s.Rows {
			if r.Port != port {
				continue
			}
			r.Opened += sum.Opened
			r.Bytes += sum.Bytes
			r.Leaks += sum.Leaks
			sum = r
		}
	}
	return sum
}

func TestTheWireBetweenNamespacesIsTold(t *testing.T) {
	twoPodsAndANode(t)
	start(t, in(t, serverNS, "serve"))
	stop := snapshots(t)
	for _, url := range []string{"http://" + serverIP + ":8080/", "https://" + serverIP + ":8443/"} {
		got, err := in(t, callerNS, "40 100 "+url).Output()
		require.NoError(t, err)
		require.Equal(t, "40", strings.TrimSpace(string(got)))
	}
	all := stop()
	plain, sealed := rowsByPort(all, 8080), rowsByPort(all, 8443)
	require.Equal(t, []any{HTTP1, uint64(40), []string{"run"}, netip.MustParseAddr(callerIP), netip.MustParseAddr(serverIP), false},
		[]any{plain.Class, plain.Leaks, plain.Needles, plain.Client, plain.Server, plain.Middle})
	require.Equal(t, []any{TLS, "1.3", "stock", uint64(0), false}, []any{sealed.Class, sealed.Version, sealed.SNI, sealed.Leaks, sealed.Middle})
	require.Contains(t, sealed.ALPN, "http/1.1")
	for _, r := range []Row{plain, sealed} {
		require.InDelta(t, 8, r.Opened, 8, "one to sixteen connections, each counted once though it crosses two links")
		require.Positive(t, r.Opened)
		require.Greater(t, r.Bytes, uint64(40*800))
		require.Less(t, r.Bytes, uint64(40*1600+16*6000), "and so are its bytes")
	}
	for _, s := range all {
		require.Zero(t, s.Drops)
		require.Zero(t, s.Gaps)
	}
}

// TestWhatFollowingCostsBetweenNamespaces prints the capture's share of a core
// for 200 requests a second, each a TLS call of 300 bytes with an answer of 500.
// It asserts only that nothing was missed: times are for docs/performance.md.
func TestWhatFollowingCostsBetweenNamespaces(t *testing.T) {
	twoPodsAndANode(t)
	start(t, in(t, serverNS, "serve"))
	stop := snapshots(t)
	begun := time.Now()
	got, err := in(t, callerNS, "2000 200 https://"+serverIP+":8443/").Output()
	took := time.Since(begun)
	require.NoError(t, err)
	require.Equal(t, "2000", strings.TrimSpace(string(got)))
	all := stop()
	var packets, drops uint64
	var cpu float64
	var rss int64
	for _, s := range all {
		packets, drops, cpu, rss = packets+s.Packets, drops+s.Drops, cpu+s.CPUSeconds, max(rss, s.RSSBytes)
	}
	require.Zero(t, drops)
	require.Greater(t, rowsByPort(all, 8443).Bytes, uint64(2000*800))
	t.Logf("%.0f requests/s: %d packets, %.1f µs each, %.2f %% of a core, %d MiB resident",
		2000/took.Seconds(), packets, cpu/float64(packets)*1e6, 100*cpu/took.Seconds(), rss>>20)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakemesh/calmlog"
	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy"
	"meshsim.dev/meshsim/fakemesh/proxy/process"
	"meshsim.dev/meshsim/fakemesh/redirect"
)

func runProxy(ctx context.Context, o *options) error {
	if err := o.parse(); err != nil {
		return err
	}
	c, err := proxy.FromEnv(o.env)
	if err != nil {
		return fmt.Errorf("read the environment: %w", err)
	}
	o.level.Set(c.LogLevel)
	if len(c.LogUnknown) > 0 {
		o.log.Warn("parts of the log level say nothing", "parts", c.LogUnknown, "level", c.LogLevel)
	}
	fit := func(err error) {
		if err != nil {
			o.log.Warn("the process is larger than it need be", "error", err)
		}
	}
	fit(process.Fit(c.Cores))
	c.OnReady = func(ctx context.Context) { fit(process.StaySmall(ctx)) }
	return proxy.Run(ctx, c, slog.New(calmlog.New(o.log.Handler(), linesPerSecond)))
}

// linesPerSecond is how much a proxy writes at most, whatever is done to it.
const linesPerSecond = 50

func runInit(_ context.Context, o *options) error {
	in := o.flags.Uint("incoming-proxy-port", contract.PortInbound, "`port` of the proxy for what comes in")
	out := o.flags.Uint("outgoing-proxy-port", contract.PortOutbound, "`port` of the proxy for what goes out")
	uid := o.flags.Uint("proxy-uid", contract.ProxyUID, "`user` id of the proxy, whose own traffic is left alone")
	skipIn := o.flags.String("inbound-ports-to-ignore", "", "`ports` that are not redirected, such as 4190,4191")
	skipOut := o.flags.String("outbound-ports-to-ignore", "", "`ports` that are not redirected")
	if err := o.parse(); err != nil {
		return err
	}
	r, err := redirection(*in, *out, *uid, *skipIn, *skipOut)
	if err != nil {
		return err
	}
	if err := redirect.Apply(r); err != nil {
		return err
	}
	o.log.Info("traffic is redirected", "inbound", r.InboundPort, "outbound", r.OutboundPort,
		"skipInbound", r.SkipInbound.String(), "skipOutbound", r.SkipOutbound.String())
	return nil
}

// redirection makes the rules of the flags' values.
func redirection(in, out, uid uint, skipIn, skipOut string) (redirect.Rules, error) {
	for _, f := range []struct {
		name      string
		got, most uint
	}{
		{"incoming-proxy-port", in, math.MaxUint16},
		{"outgoing-proxy-port", out, math.MaxUint16},
		{"proxy-uid", uid, math.MaxUint32},
	} {
		if f.got > f.most {
			return redirect.Rules{}, wrongFlag(f.name, fmt.Errorf("%d is more than %d", f.got, f.most))
		}
	}
	r := redirect.Rules{InboundPort: uint16(in), OutboundPort: uint16(out), ProxyUID: uint32(uid)}
	var err error
	if r.SkipInbound, err = ports.Parse(skipIn); err != nil {
		return r, wrongFlag("inbound-ports-to-ignore", err)
	}
	if r.SkipOutbound, err = ports.Parse(skipOut); err != nil {
		return r, wrongFlag("outbound-ports-to-ignore", err)
	}
	return r, nil
}

func admin(port uint) string { return "http://127.0.0.1:" + strconv.Itoa(int(port)) }

// local is a client for the proxy of the same pod.
func local() *http.Client {
	return &http.Client{Timeout: time.Second, Transport: &http.Transport{
		Proxy:             nil,
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext,
	}}
}

func runAwait(ctx context.Context, o *options) error {
	timeout := o.flags.Duration("timeout", 2*time.Minute, "how long to wait")
	port := o.flags.Uint("port", contract.PortAdmin, "the proxy's admin `port`")
	if err := o.parse(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	client := local()
	for {
		err := call(ctx, client, http.MethodGet, admin(*port)+"/ready")
		if err == nil {
			return nil
		}
		if pause.For(ctx, 100*time.Millisecond) != nil {
			return exitError{fmt.Errorf("the proxy did not become ready within %s: %w", *timeout, err), codeAwait}
		}
	}
}

func call(ctx context.Context, client *http.Client, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, url, res.Status)
	}
	return nil
}

// drainAfter is how long other nodes may take to learn that this pod takes no
// new connections. Then clients are told to come back by new ones, while the
// application still answers the old.
const drainAfter = 2 * time.Second

// runSleep is the proxy's preStop hook.
func runSleep(ctx context.Context, o *options) error {
	port := o.flags.Uint("port", contract.PortAdmin, "the proxy's admin `port`")
	drain := o.flags.Duration("drain-after", drainAfter, "when clients are told to come back by new connections")
	if err := o.parse(); err != nil {
		return err
	}
	if len(o.args) != 1 {
		return wrongUse(errors.New("sleep takes the number of seconds"))
	}
	seconds, err := strconv.Atoi(o.args[0])
	if err != nil || seconds < 0 {
		return wrongUse(fmt.Errorf("%q is no number of seconds", o.args[0]))
	}
	end := time.After(time.Duration(seconds) * time.Second)
	next := time.After(*drain)
	client := local()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end:
			return nil
		case <-next:
			// Again each second: a client that learns late may have come back here.
			if err := call(ctx, client, http.MethodPost, admin(*port)+"/drain"); err != nil {
				o.log.Warn("the proxy was not told to drain", "error", err)
			}
			next = time.After(time.Second)
		}
	}
}

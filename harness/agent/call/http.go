package call

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"meshsim.dev/meshsim/harness/agent/echo"
)

// maxAnswer is more than any answer that is looked into.
const maxAnswer = 64 << 10

// maxReason is how much of a refusal is kept.
const maxReason = 200

type httpCaller struct {
	o         Options
	transport *http.Transport
}

func newHTTP(o Options) *httpCaller {
	return &httpCaller{o: o, transport: &http.Transport{DisableKeepAlives: o.Fresh, DisableCompression: true, MaxIdleConnsPerHost: 32}}
}

func (c *httpCaller) close() { c.transport.CloseIdleConnections() }

// call takes a status of 400 or more for a failure.
func (c *httpCaller) call(ctx context.Context, into *Result) error {
	method, body := c.o.Method, io.Reader(nil)
	if c.o.Bytes > 0 {
		body = bytes.NewReader(make([]byte, c.o.Bytes))
	}
	if method == "" && body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.o.Target, body)
	if err != nil {
		return err
	}
	for key, value := range c.o.Headers {
		req.Header.Set(key, value)
	}
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	into.Status = res.StatusCode
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(text[:min(len(text), maxReason)]))
	}
	var a echo.Answer
	if json.Unmarshal(text, &a) != nil {
		return nil // not an echo server: its status says enough
	}
	if a.Bytes != int64(c.o.Bytes) {
		return fmt.Errorf("the server got %d bytes of %d", a.Bytes, c.o.Bytes)
	}
	into.Server = a.Name
	if c.o.Show {
		into.Headers, into.Received = a.Headers, res.Header
	}
	return nil
}

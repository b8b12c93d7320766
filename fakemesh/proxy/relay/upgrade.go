package relay

import (
	"errors"
	"io"
	"net/http"
	"time"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// switchProtocols answers 101 and then carries bytes both ways until one side ends.
func (x *Relay) switchProtocols(res *http.Response, flow *metrics.HTTP, start time.Time) {
	server, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		res.Body.Close()
		x.refuse(flow, errors.New("the upgraded connection cannot be written to"), time.Since(start))
		return
	}
	defer server.Close()
	protocol := res.Header.Get("Upgrade")
	stripResponse(res.Header)
	res.Header.Set("Connection", "Upgrade")
	res.Header.Set("Upgrade", protocol)
	client, buffered, err := http.NewResponseController(x.W).Hijack()
	if err != nil {
		x.Fail(&Error{http.StatusBadGateway, "upgrade", err})
		panic(http.ErrAbortHandler)
	}
	defer client.Close()
	count(flow, metrics.Response{Status: res.StatusCode}, time.Since(start))
	res.Body = nil
	if err := res.Write(buffered); err != nil {
		return
	}
	if err := buffered.Flush(); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	pass := func(dst io.Writer, src io.Reader) {
		_, _ = io.Copy(dst, src)
		done <- struct{}{}
	}
	go pass(server, buffered)
	go pass(client, server)
	<-done
	// A protocol that was upgraded to ends by its own messages; when one side
	// has closed, nothing more can come of the other.
	server.Close()
	client.Close()
	<-done
}

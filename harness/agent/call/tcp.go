package call

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const ping = "ping\n"

// tcpCaller makes a connection for each call: what a mesh adds to TCP is
// mostly in its beginning.
type tcpCaller struct {
	o       Options
	addr    string
	greeted bool
}

func (c *tcpCaller) close() {}

func (c *tcpCaller) call(ctx context.Context, into *Result) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	r := bufio.NewReader(conn)
	if c.greeted {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("wait for the greeting: %w", ended(ctx, err))
		}
		into.Server = strings.TrimPrefix(strings.TrimSpace(line), "hello from ")
	}
	return pings(ctx, struct {
		io.Reader
		io.Writer
	}{r, conn}, c.o, into)
}

// pings sends messages and reads each back, for as long as the connection is
// to be held, or once.
func pings(ctx context.Context, conn io.ReadWriter, o Options, into *Result) error {
	message := []byte(ping)
	if o.Bytes > 0 {
		message = make([]byte, o.Bytes)
	}
	back := make([]byte, len(message))
	for until := time.Now().Add(o.Hold); ; {
		if err := exchange(conn, message, back); err != nil {
			return ended(ctx, err)
		}
		into.Pings++
		if !holding(ctx, until) {
			return nil
		}
	}
}

// exchange writes while it reads: a message may be larger than what the
// connection holds.
func exchange(conn io.ReadWriter, message, back []byte) error {
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(message)
		wrote <- err
	}()
	_, err := io.ReadFull(conn, back)
	if err != nil {
		return fmt.Errorf("read the message back: %w", err)
	}
	if err := <-wrote; err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// ended prefers the context's reason to that of the connection it closed.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

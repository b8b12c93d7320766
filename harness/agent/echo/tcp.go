package echo

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

func serveTCP(ctx context.Context, l net.Listener, _ string) error {
	return serveConns(ctx, l, "")
}

// serveGreeting speaks first, as database and mail servers do.
func serveGreeting(ctx context.Context, l net.Listener, name string) error {
	return serveConns(ctx, l, "hello from "+name+"\n")
}

func serveConns(ctx context.Context, l net.Listener, greeting string) error {
	var open sync.WaitGroup
	defer open.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve TCP: %w", err)
		}
		open.Go(func() { echo(ctx, conn, greeting) })
	}
}

func echo(ctx context.Context, conn net.Conn, greeting string) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, greeting); err != nil {
		return
	}
	_, _ = io.Copy(conn, conn) // ends with either side
}

package call

import (
	"context"

	"golang.org/x/net/websocket"
)

type wsCaller struct{ o Options }

func (c *wsCaller) close() {}

func (c *wsCaller) call(ctx context.Context, into *Result) error {
	config, err := websocket.NewConfig(c.o.Target, "http://agent.invalid/")
	if err != nil {
		return err
	}
	conn, err := config.DialContext(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	return pings(ctx, conn, c.o, into)
}

package echo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Lasting is one TCP connection, or one stream of gRPC, that is opened once and
// never again: when it breaks, every further call fails. A call is one message and
// its answer; calls take turns.
type Lasting struct {
	mu   sync.Mutex
	call func(context.Context) error
	end  func() error
}

// Call sends one message and reads its answer.
func (l *Lasting) Call(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.call(ctx)
}

// End ends it; its error is that the other side did not end as well.
func (l *Lasting) End() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end()
}

// Open opens a connection of TCP, or a Stream.
func Open(ctx context.Context, p Protocol, dial Dialer) (*Lasting, error) {
	switch p {
	case TCP:
		return openTCP(ctx, dial)
	case Stream:
		return openStream(dial)
	}
	return nil, fmt.Errorf("%s does not last", p)
}

func openTCP(ctx context.Context, dial Dialer) (*Lasting, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a connection: %w", err)
	}
	return &Lasting{
		call: func(ctx context.Context) error { return exchange(ctx, conn) },
		end:  conn.Close,
	}, nil
}

func openStream(dial Dialer) (*Lasting, error) {
	c, err := newGRPCClient(dial, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.client.FullDuplexCall(ctx)
	if err != nil {
		cancel()
		c.Close()
		return nil, fmt.Errorf("open a stream: %w", err)
	}
	return &Lasting{
		call: func(ctx context.Context) error {
			// The stream outlives the call, unless that gets no answer.
			defer context.AfterFunc(ctx, cancel)()
			return c.message(stream)
		},
		end: func() error {
			defer c.Close()
			defer cancel()
			if err := stream.CloseSend(); err != nil {
				return fmt.Errorf("end the stream: %w", err)
			}
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("end the stream: %w", err)
			}
			return nil
		},
	}, nil
}

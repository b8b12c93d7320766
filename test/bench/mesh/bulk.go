package main

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// bulkSize is a large body's, in bytes.
const bulkSize = 16 << 20

// bulkFigures are how fast one path moves large bodies, one after another.
type bulkFigures struct {
	Protocol     echo.Protocol `json:"protocol"`
	Body         string        `json:"body"` // of the request or the response
	Path         string        `json:"path"`
	MiBPerSecond float64       `json:"mibPerSecond"`
}

// transfer sends and receives large bodies for turns of that length on each of
// the paths in turn.
func transfer(ctx context.Context, paths []path, on, turn time.Duration) ([]bulkFigures, error) {
	var all []bulkFigures
	for _, proto := range []echo.Protocol{echo.HTTP, echo.GRPC} {
		for _, body := range []string{"request", "response"} {
			moved, took := make([]int, len(paths)), make([]time.Duration, len(paths))
			for range int(on / turn) {
				for i, p := range paths {
					if p.name == pathAgain {
						continue
					}
					begin := time.Now()
					n, err := transferOnce(ctx, p.dial(proto), proto, body, turn)
					if err != nil {
						return nil, fmt.Errorf("%s %s by %s: %w", proto, body, p.name, err)
					}
					moved[i] += n
					took[i] += time.Since(begin)
				}
			}
			for i, p := range paths {
				if took[i] > 0 {
					all = append(all, bulkFigures{proto, body, p.name, sheet.MiB(int64(moved[i])) / took[i].Seconds()})
				}
			}
		}
	}
	return all, nil
}

func transferOnce(ctx context.Context, dial echo.Dialer, proto echo.Protocol, body string, turn time.Duration) (moved int, err error) {
	c, err := echo.NewBulk(proto, dial)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	call := c.Send
	if body == "response" {
		call = c.Receive
	}
	for begin := time.Now(); time.Since(begin) < turn; moved += bulkSize {
		if err := call(ctx, bulkSize); err != nil {
			return 0, err
		}
	}
	return moved, nil
}

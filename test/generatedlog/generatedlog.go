// Package generatedlog makes access logs of any length, for tests and benches of
// what reads them.
package generatedlog

import (
	"io"
	"math/rand/v2"
	"time"
)

// Log is a load balancer's log that is made while it is read:
// sixteen kinds of lines, each with its own time, about as much out of order as
// real ones are.
type Log struct {
	lines int // that are left
	at    int64
	gap   int64 // microseconds, on average
	rng   *rand.Rand
	rest  []byte
	buf   []byte
	kinds [][2]string
}

// New returns a log of so many lines, a gap apart on average.
func New(lines int, gap time.Duration) *Log {
	g := &Log{
		lines: lines, at: time.Date(2024, 6, 11, 7, 0, 0, 0, time.UTC).UnixMicro(), gap: gap.Microseconds(), rng: rand.New(rand.NewPCG(1, 2)),
	}
	agents := []string{"curl/8.0", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"}
	requests := []string{
		"GET https://shop.example:443/api/catalog/products?page=3", "GET https://shop.example:443/api/catalog/products/p-0123",
		"GET https://shop.example:443/api/catalog/search?q=birch&session=0123456789abcdef", "POST https://shop.example:443/api/configurations",
		"POST https://shop.example:443/api/orders", "GET https://shop.example:443/api/customers/c-0042", "GET https://shop.example:443/health",
		"GET https://shop.example:443/wp-login.php",
	}
	for _, agent := range agents {
		for _, request := range requests {
			g.kinds = append(g.kinds, [2]string{
				" app/shop/50dc6c495c0c9188 192.0.2.1:2817 10.0.0.1:8080 0.001 0.024 0.000 200 200 341 5366 \"" + request + " HTTP/2.0\" \"" + agent +
					"\" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/shop/73e2d6bc24d8a067" +
					" \"Root=1-58337262-36d228ad5d99923122bbe354\" \"shop.example\" \"session-reused\" 0 ",
				" \"forward\" \"-\" \"-\" \"10.0.0.1:8080\" \"200\" \"-\" \"-\" TID_1234abcd5678ef90 \"-\" \"-\" \"-\"\n",
			})
		}
	}
	return g
}

func (g *Log) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(g.rest) == 0 {
			if g.lines == 0 {
				if n > 0 {
					return n, nil
				}
				return 0, io.EOF
			}
			g.lines--
			g.rest = g.line()
		}
		done := copy(p[n:], g.rest)
		g.rest, n = g.rest[done:], n+done
	}
	return n, nil
}

func (g *Log) line() []byte {
	g.at += g.rng.Int64N(2*g.gap + 1)
	kind := g.kinds[g.rng.IntN(len(g.kinds))]
	g.buf = append(g.buf[:0], "h2 "...)
	g.buf = appendISO(g.buf, g.at+25_000)
	g.buf = append(g.buf, kind[0]...)
	g.buf = appendISO(g.buf, g.at-g.rng.Int64N(200_000))
	g.buf = append(g.buf, kind[1]...)
	return g.buf
}

// appendISO writes a time of 2024-06-11, or a later day of that month, quickly.
func appendISO(b []byte, micros int64) []byte {
	seconds := micros/1e6 - time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC).Unix()
	two := func(n int64) {
		b = append(b, byte('0'+n/10%10), byte('0'+n%10))
	}
	b = append(b, "2024-06-"...)
	two(1 + seconds/86400)
	b = append(b, 'T')
	two(seconds / 3600 % 24)
	b = append(b, ':')
	two(seconds / 60 % 60)
	b = append(b, ':')
	two(seconds % 60)
	b = append(b, '.')
	fraction := micros % 1e6
	two(fraction / 10_000)
	two(fraction / 100 % 100)
	two(fraction % 100)
	return append(b, 'Z')
}

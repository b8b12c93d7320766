package hops

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

const us = time.Microsecond

func TestALineIsReadAsAWay(t *testing.T) {
	inventory := Hop{Depth: 1, Caller: "order-processing", Service: "inventory-management", Pod: "inventory-management-7-x", Node: "worker2",
		Version: "v2", Start: 100 * us, Took: 900 * us, Own: 700 * us, Attempts: 1}
	root := Hop{Service: "order-processing", Pod: "order-processing-5d-a", Node: "worker", Version: "v1", Took: 1500 * us, Own: 1500 * us, Attempts: 1}
	pg := Hop{Depth: 2, Caller: "inventory-management", Service: "postgres", Start: 20 * us, Took: 500 * us, Attempts: 1}
	changed := func(h Hop, change func(*Hop)) Hop { change(&h); return h }
	cases := []struct {
		name, line string
		want       []Hop
	}{
		{"a service that asked nobody", "~5d-a@worker/v1:1500", []Hop{root}},
		{"a call two services away", "~5d-a@worker/v1:1500(inventory-management:100:900=~7-x@worker2/v2:700(postgres:20:500))", []Hop{root, inventory, pg}},
		{"a call that was not answered", "~5d-a@worker/v1:1500(inventory-management:100:900!14*2)", []Hop{root, {Depth: 1,
			Caller: "order-processing", Service: "inventory-management", Start: 100 * us, Took: 900 * us, Code: codes.Unavailable, Attempts: 2}}},
		{"a failed call that was answered", "~5d-a@worker/v1:1500(inventory-management:100:900!4=~7-x@worker2/v2:700)",
			[]Hop{root, changed(inventory, func(h *Hop) { h.Code = codes.DeadlineExceeded })}},
		{"calls for which there was no room", "~5d-a@worker/v1:1500(inventory-management:100:900=~7-x@worker2/v2:700,+3)",
			[]Hop{changed(root, func(h *Hop) { h.Untold = 3 }), inventory}},
		{"nothing but calls for which there was no room", "~5d-a@worker/v1:1500(+1)", []Hop{changed(root, func(h *Hop) { h.Untold = 1 })}},
		{"a pod with a name of its own", "host-1@/:0", []Hop{{Service: "order-processing", Pod: "host-1", Attempts: 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			way, err := Parse("order-processing", c.line)
			require.NoError(t, err)
			require.Equal(t, c.want, way)
			require.True(t, Valid(c.line))
		})
	}
}

func TestWhatIsNoLineIsRefused(t *testing.T) {
	for _, line := range []string{
		"", "x", "@/:1", "~@/:1", "p@n/v:", "p@n/v:01", "p@n/v:-1", "p@n/v:1(", "p@n/v:1()", "p@n/v:1(a)", "p@n/v:1(a:1)", "p@n/v:1(a:1:2",
		"p@n/v:1(a:1:2,)", "p@n/v:1(a:1:2)x", "p@n/v:1(a:1:2!0)", "p@n/v:1(a:1:2*1)", "p@n/v:1(:1:2)", "p@n/v:1(~a:1:2)", "p@n/v:1(+0)",
		"p@n/v:1(+1,a:1:2)", "p@n/v:1(a:1:2=)", "p@n/v:1(a:1:2!14!14)", "ü@n/v:1", "p q@n/v:1", "p@n/v:1099511627776",
		"p@n/v:99999999999999999999999", strings.Repeat("p", 64) + "@n/v:1", "p@n/v:1(" + strings.Repeat("a:1:2,", 200) + "a:1:2)",
		"p@n/v:1(" + strings.Repeat("a:1:2,", 63) + "a:1:2)",
		strings.Repeat("p@n/v:1(a:1:2=", 9) + "p@n/v:1" + strings.Repeat(")", 9),
	} {
		_, err := Parse("s", line)
		require.ErrorIs(t, err, ErrMalformed, line)
		require.False(t, Valid(line), line)
	}
	require.True(t, Valid("p@n/v:1("+strings.Repeat("a:1:2,", 62)+"a:1:2)"), "64 hops")
	require.True(t, Valid(strings.Repeat("p@n/v:1(a:1:2=", 8)+"p@n/v:1"+strings.Repeat(")", 8)), "depth 8")
}

func TestARecordTellsEveryCallOfItsRequest(t *testing.T) {
	self := NewSelf("order-processing", "order-processing-5d-a", "worker", "v1")
	behind := NewSelf("inventory-management", "inventory-management-7-x", "worker2", "v2")
	ctx, r := Begin(t.Context())
	require.Same(t, r, From(ctx))
	_, inner := Begin(t.Context())
	inner.Add(Call{Service: "postgres", Began: inner.began.Add(20 * us), Took: 500 * us, Attempts: 1})
	From(ctx).Add(Call{Service: "inventory-management", Began: r.began.Add(time.Millisecond), Took: 2 * time.Millisecond,
		Code: codes.Unavailable, Attempts: 2, Answer: inner.Answer(behind)})
	way, err := Parse("order-processing", r.Answer(self))
	require.NoError(t, err)
	require.Len(t, way, 3)
	require.Equal(t, "order-processing-5d-a", way[0].Pod)
	require.Positive(t, way[1].Own)
	way[1].Own = 0
	require.Equal(t, Hop{Depth: 1, Caller: "order-processing", Service: "inventory-management", Pod: "inventory-management-7-x", Node: "worker2",
		Version: "v2", Start: time.Millisecond, Took: 2 * time.Millisecond, Code: codes.Unavailable, Attempts: 2}, way[1])
	require.Equal(t, Hop{Depth: 2, Caller: "inventory-management", Service: "postgres", Start: 20 * us, Took: 500 * us, Attempts: 1}, way[2])

	var none *Record
	none.Add(Call{Service: "postgres"})
	require.Empty(t, none.Answer(self))
	require.Nil(t, From(context.Background()))
}

func TestStrangeNamesAndAnswersAreCutToWhatALineCanHold(t *testing.T) {
	_, r := Begin(t.Context())
	for _, answer := range []string{"(", "p@n/v:1)", "p@n/v:1,x:1:2", strings.Repeat("x", 2*Limit)} {
		r.Add(Call{Service: "a b", Answer: answer})
	}
	way, err := Parse("s", r.Answer(NewSelf("s", strings.Repeat("ü", 80), "n(1)", "v,1")))
	require.NoError(t, err)
	require.Len(t, way, 5)
	require.Equal(t, strings.Repeat("_", 63), way[0].Pod)
	require.Equal(t, "n_1_", way[0].Node)
	require.Equal(t, "a_b", way[1].Service)
	require.False(t, way[1].Answered())
	require.Equal(t, "_", mustParse(t, r.Answer(NewSelf("s", "", "", "")))[0].Pod)
}

func mustParse(t *testing.T, line string) []Hop {
	t.Helper()
	way, err := Parse("s", line)
	require.NoError(t, err, line)
	return way
}

func TestALineNeverGrowsOverItsLimit(t *testing.T) {
	long := strings.Repeat("n", 63)
	self := NewSelf("s", long, long, long)
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		answer := ""
		for depth := range 20 {
			_, r := Begin(t.Context())
			var all sync.WaitGroup
			calls := rng.IntN(40)
			for n := range calls {
				c := Call{Service: fmt.Sprintf("service-%d", n), Began: time.Now(), Took: time.Duration(rng.Int64()), Attempts: rng.IntN(400)}
				if rng.IntN(3) == 0 {
					c.Answer = answer
				}
				all.Go(func() { r.Add(c) })
			}
			all.Wait()
			answer = r.Answer(self)
			require.LessOrEqual(t, len(answer), Limit)
			way := mustParse(t, answer)
			told := 0
			for _, h := range way {
				if h.Depth == 1 {
					told++
				}
			}
			require.Equal(t, calls, told+way[0].Untold, "depth %d: none is lost without a word", depth)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"~5d-a@worker/v1:1500(inventory-management:100:900!14*2=~7-x@worker2/v2:700(postgres:20:500),+3)", "p@n/v:1", "p@n/v:1(+1)", "", "~@/:(",
		"p@n/v:1(a:1:2,b:3:4=~q@m/w:5(c:6:7))",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		way, err := Parse("service", line)
		if Valid(line) != (err == nil) {
			t.Fatal("Valid and Parse disagree")
		}
		if err != nil {
			return
		}
		if len(way) == 0 || len(way) > MaxHops || way[0].Depth != 0 {
			t.Fatalf("%d hops", len(way))
		}
		for i, h := range way[1:] {
			if h.Depth < 1 || h.Depth > way[i].Depth+1 || h.Caller == "" && h.Depth > 1 {
				t.Fatalf("hop %+v after %+v", h, way[i])
			}
		}
		// What can be read can stand in a caller's line, unless it is too deep.
		_, r := Begin(context.Background())
		r.Add(Call{Service: "inner", Answer: line, Attempts: 1})
		if _, err := Parse("outer", r.Answer(NewSelf("outer", "outer-1", "n", "v1"))); err != nil {
			t.Fatal("an answer broke its caller's line")
		}
	})
}

// BenchmarkWay is what a service does for a request with three calls.
func BenchmarkWay(b *testing.B) {
	self := NewSelf("order-processing", "order-processing-5d8f9c7b6-abcde", "meshsim-worker3", "v1")
	answer := "~7c9d8f5b6-x2x1z@meshsim-worker2/v1:700(postgres:20:500)"
	b.ReportAllocs()
	for b.Loop() {
		ctx, r := Begin(b.Context())
		for range 3 {
			From(ctx).Add(Call{Service: "inventory-management", Began: r.began, Took: time.Millisecond, Attempts: 1, Answer: answer})
		}
		if r.Answer(self) == "" {
			b.Fatal("no line")
		}
	}
}

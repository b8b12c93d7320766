package steps

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/harness/agent/twin"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// measureAddedLatency calls a meshed and a plain twin in turns from inside the
// cluster, while the shop's traffic goes on.
type measureAddedLatency struct {
	options *scenarios.MeasureAddedLatency
	env     *Env
}

// tripleRate is gentle: three small calls each, beside the shop's own traffic.
const tripleRate = 40

func (s *measureAddedLatency) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("measure added latency")
	args := []string{
		fmt.Sprintf("--triples=%d", s.options.Triples), fmt.Sprintf("--payload=%d", s.options.PayloadBytes),
		fmt.Sprintf("--rate=%d", tripleRate),
	}
	sending := time.Duration(s.options.Triples) * time.Second / tripleRate
	var got twin.Result
	if err := agentRun(ctx, s.env, twinsManifest, "twin-client", args, 2*sending+3*time.Minute, &got); err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%d triples", len(got.Meshed)))
	return s.env.Record.Probe(results.ProbeAddedLatency, results.AddedLatency{
		PayloadBytes: got.PayloadBytes, PerHop: true, Planned: s.options.Triples,
		Samples: results.AddedLatencySample{Plain: got.Plain, Meshed: got.Meshed, PlainAgain: got.PlainAgain},
	})
}

package steps

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/twin"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

//go:embed shoptwins.yaml.tmpl
var shopTwinsManifest string

// measureAddedLatency calls a meshed and a plain twin in turns from inside the
// cluster, while the shop's traffic goes on.
type measureAddedLatency struct {
	options *scenarios.MeasureAddedLatency
	env     *Env
}

// Triples a second, gentle beside the shop's own traffic: a triple is three small
// calls, or three pages of the shop with several calls each.
const (
	tripleRate = 40
	pageRate   = 15
)

// What is asked for of the shop, and who has a say in the answer.
const (
	twinPage  = "/api/catalog/products/p-0001"
	twinPath  = "GET " + twinPage + ": product-catalog > inventory-management, recommendation-service"
	twinLogin = "shop-login" // the Secret that the copies read
)

func (s *measureAddedLatency) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("measure added latency")
	seen, err := s.measure(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%d triples", len(seen.Samples.Meshed)))
	return s.env.Record.Probe(results.ProbeAddedLatency, seen)
}

func (s *measureAddedLatency) measure(ctx context.Context) (results.AddedLatency, error) {
	shop := s.options.Path == scenarios.PathShop
	rate := tripleRate
	if shop {
		rate = pageRate
	}
	args := []string{
		fmt.Sprintf("--triples=%d", s.options.Triples), fmt.Sprintf("--payload=%d", s.options.PayloadBytes), fmt.Sprintf("--rate=%d", rate),
	}
	patience := 2*time.Duration(s.options.Triples)*time.Second/time.Duration(rate) + 4*time.Minute
	var got twin.Result
	var err error
	if shop {
		err = s.onShop(ctx, args, patience, &got)
	} else {
		err = agentRun(ctx, s.env, twinsManifest, "twin-client", args, patience, &got)
	}
	seen := results.AddedLatency{
		PayloadBytes: got.PayloadBytes, PerHop: !shop, Planned: s.options.Triples, Lost: got.Lost,
		Samples: results.AddedLatencySample{Plain: got.Plain, Meshed: got.Meshed, PlainAgain: got.PlainAgain},
	}
	if shop {
		seen.Path = twinPath
	}
	return seen, err
}

// onShop measures on two copies of one path of the shop, with a database login
// that ends with them.
func (s *measureAddedLatency) onShop(ctx context.Context, args []string, patience time.Duration, into *twin.Result) (err error) {
	text, err := shopTwins(s.env.Stack.Images, args)
	if err != nil {
		return err
	}
	if err := clearProbes(ctx, s.env); err != nil {
		return err
	}
	if err := stack.LendLogin(ctx, s.env.Stack, probeNamespace, twinLogin); err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		err = errors.Join(err, stack.EndLending(ending, s.env.Stack))
	}()
	return runRendered(ctx, s.env, text, "twin-client", patience, into)
}

// shopCopy is one of the copies.
type shopCopy struct {
	Name   string
	Meshed bool
}

// copied is a service that the copies have.
type copied struct{ Name, Short string }

// shopTwins is the manifest of the copies and of who calls them.
func shopTwins(images stack.Images, args []string) ([]byte, error) {
	agent, err := images.Image("agent")
	if err != nil {
		return nil, err
	}
	shop, err := images.Image("fakeshop")
	if err != nil {
		return nil, err
	}
	return render(shopTwinsManifest, map[string]any{
		"Namespace": probeNamespace, "ShopNamespace": shopNamespace, "Secret": twinLogin, "Page": twinPage,
		"Image": agent.Ref, "Shop": shop.Ref, "Args": args,
		"Copies":   []shopCopy{{Name: "plain"}, {Name: "meshed", Meshed: true}},
		"Services": []copied{{"product-catalog", "catalog"}, {"inventory-management", "inventory"}, {"recommendation-service", "recommend"}},
	})
}

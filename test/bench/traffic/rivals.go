package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// The programs that are compared.
const (
	ourHTTP = "meshsim, HTTP"
	vegetas = "vegeta"
	wrks    = "wrk, as fast as it can"
	ourGRPC = "meshsim, gRPC"
	ghzs    = "ghz"
)

// turn is one go of a program: how many requests were answered, at what price.
type turn func(ctx context.Context, w *world) (answered int64, u used, err error)

// measureRivals lets the programs that are there send by turns.
func measureRivals(ctx context.Context, w *world, r *report) error {
	protoset, err := w.protoset()
	if err != nil {
		return err
	}
	programs := []struct {
		name, path string // of meshsim there is always one
		turn       turn
	}{
		{ourHTTP, "meshsim", ours(overHTTP)},
		{vegetas, w.vegeta, vegetaTurn},
		{ourGRPC, "meshsim", ours(overGRPC)},
		{ghzs, w.ghz, ghzTurn(protoset)},
		{wrks, w.wrk, wrkTurn},
	}
	for round := range w.plan.rounds {
		for _, p := range programs {
			if p.path == "" {
				continue
			}
			answered, u, err := p.turn(ctx, w)
			if err != nil {
				return fmt.Errorf("turn %d of %s: %w", round+1, p.name, err)
			}
			r.took(p.name, answered, u)
		}
	}
	return nil
}

func ours(routes map[string]int) turn {
	return func(ctx context.Context, w *world) (int64, used, error) {
		s, u, err := w.send(ctx, "rival", sending{Routes: routes, Rate: w.plan.rivalRate, Lasts: w.plan.rivals})
		return s.OK, u, err
	}
}

func vegetaTurn(ctx context.Context, w *world) (int64, used, error) {
	out := filepath.Join(w.folder, "vegeta.bin")
	cmd := exec.CommandContext(ctx, w.vegeta, "attack", "-rate", strconv.FormatFloat(w.plan.rivalRate, 'f', 0, 64),
		"-duration", w.plan.rivals.String(), "-timeout", "5s", "-output", out)
	cmd.Stdin = strings.NewReader("GET http://" + w.doors.HTTP + "/api/catalog/products/p-0001\n")
	_, u, err := finish(cmd)
	if err != nil {
		return 0, u, err
	}
	report, _, err := finish(exec.CommandContext(ctx, w.vegeta, "report", "-type", "json", out))
	if err != nil {
		return 0, u, err
	}
	n, err := parseVegeta(report)
	return n, u, err
}

func parseVegeta(report []byte) (answered int64, err error) {
	var said struct {
		Codes map[string]int64 `json:"status_codes"`
	}
	if err := json.Unmarshal(report, &said); err != nil {
		return 0, fmt.Errorf("read vegeta's report: %w", err)
	}
	return said.Codes["200"], nil
}

func ghzTurn(protoset string) turn {
	return func(ctx context.Context, w *world) (int64, used, error) {
		report, u, err := finish(exec.CommandContext(ctx, w.ghz, "--insecure", "--protoset", protoset,
			"--call", "shop.v1.ProductCatalog.GetProduct", "--data", `{"id":"p-0001"}`, "--async", "--connections", "1", "--concurrency", "4",
			"--rps", strconv.FormatFloat(w.plan.rivalRate, 'f', 0, 64), "--duration", w.plan.rivals.String(), "--duration-stop", "wait",
			"--timeout", "5s", "--format", "json", w.doors.GRPC))
		if err != nil {
			return 0, u, err
		}
		n, err := parseGHZ(report)
		return n, u, err
	}
}

func parseGHZ(report []byte) (answered int64, err error) {
	var said struct {
		Codes map[string]int64 `json:"statusCodeDistribution"`
	}
	if err := json.Unmarshal(report, &said); err != nil {
		return 0, fmt.Errorf("read ghz's report: %w", err)
	}
	return said.Codes["OK"], nil
}

func wrkTurn(ctx context.Context, w *world) (int64, used, error) {
	cmd := exec.CommandContext(ctx, w.wrk, "-t1", "-c32", "-d"+strconv.Itoa(max(1, int(w.plan.rivals/time.Second)))+"s",
		"http://"+w.doors.HTTP+"/api/catalog/products/p-0001")
	if w.wrkLibs != "" {
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+w.wrkLibs)
	}
	report, u, err := finish(cmd)
	if err != nil {
		return 0, u, err
	}
	n, err := parseWrk(report)
	return n, u, err
}

var wrkLine = regexp.MustCompile(`(?m)^\s*(\d+) requests in `)

func parseWrk(report []byte) (answered int64, err error) {
	m := wrkLine.FindSubmatch(report)
	if m == nil {
		return 0, errors.New("wrk's report does not say how many requests there were")
	}
	if strings.Contains(string(report), "Non-2xx") {
		return 0, errors.New("wrk was answered with failures")
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// protoset writes what ghz must know of the method.
func (w *world) protoset() (path string, err error) {
	set := &descriptorpb.FileDescriptorSet{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		for _, there := range set.File {
			if there.GetName() == f.Path() {
				return
			}
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(new(shopapi.GetProductRequest).ProtoReflect().Descriptor().ParentFile())
	raw, err := proto.Marshal(set)
	if err != nil {
		return "", fmt.Errorf("pack the protos: %w", err)
	}
	path = filepath.Join(w.folder, "shop.protoset")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return "", fmt.Errorf("write the protos: %w", err)
	}
	return path, nil
}

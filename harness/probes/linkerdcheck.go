package probes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/results"
)

// ErrNoLinkerd says that Linkerd's command line is not on the PATH.
var ErrNoLinkerd = errors.New("the command linkerd is not on the PATH")

// CheckOptions say what `linkerd check` looks at.
type CheckOptions struct {
	Kubeconfig string // path
	// Version is the one that is meant to be installed. With it the command
	// asks nobody on the internet for the newest; "" leaves that to it.
	Version   string
	DataPlane bool // the shop's proxies too
}

// How long the command may wait for a check to pass, and take in all.
const (
	checkWait    = 30 * time.Second
	checkTimeout = 3 * time.Minute
)

// LinkerdCheck runs `linkerd check` and reads its JSON. Exit code 1 is a
// finding like any other; the error is for what cannot be run or read.
func LinkerdCheck(ctx context.Context, runner command.Runner, o CheckOptions) (results.LinkerdCheck, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out, err := runner.Run(ctx, command.Cmd{Argv: o.argv()})
	if errors.Is(err, exec.ErrNotFound) {
		return results.LinkerdCheck{}, ErrNoLinkerd
	}
	if failed, ok := errors.AsType[*command.Error](err); err != nil && (!ok || failed.ExitCode < 0) {
		return results.LinkerdCheck{}, err
	}
	seen, parseErr := parseCheck(out.Stdout)
	if parseErr != nil {
		return results.LinkerdCheck{}, errors.Join(fmt.Errorf("read what linkerd check says: %w", parseErr), err)
	}
	seen.DataPlane = o.DataPlane
	seen.Success = seen.Success && err == nil
	return seen, nil
}

func (o CheckOptions) argv() []string {
	argv := []string{"linkerd", "check", "-o", "json", "--linkerd-namespace", meshNamespace, "--kubeconfig", o.Kubeconfig, "--wait", checkWait.String()}
	if o.Version != "" {
		argv = append(argv, "--expected-version", o.Version)
	}
	if o.DataPlane {
		argv = append(argv, "--proxy", "-n", shopNamespace)
	}
	return argv
}

// parseCheck reads the documents that the command writes one after another:
// the mesh's own, then one for each extension.
func parseCheck(raw []byte) (results.LinkerdCheck, error) {
	seen := results.LinkerdCheck{Success: true, Findings: []results.Finding{}}
	in := json.NewDecoder(bytes.NewReader(raw))
	for {
		var report json.RawMessage
		err := in.Decode(&report)
		if errors.Is(err, io.EOF) && len(seen.Reports) > 0 {
			return seen, nil
		}
		if err != nil {
			return results.LinkerdCheck{}, fmt.Errorf("it is not JSON: %w", err)
		}
		if err := addReport(&seen, report); err != nil {
			return results.LinkerdCheck{}, err
		}
	}
}

func addReport(seen *results.LinkerdCheck, report json.RawMessage) error {
	var said struct {
		Success    *bool `json:"success"`
		Categories []struct {
			Name   string `json:"categoryName"`
			Checks []struct {
				Description string `json:"description"`
				Result      string `json:"result"`
				Error       string `json:"error"`
			} `json:"checks"`
		} `json:"categories"`
	}
	if err := json.Unmarshal(report, &said); err != nil {
		return err
	}
	if said.Success == nil {
		return errors.New("it says nothing of success")
	}
	seen.Success = seen.Success && *said.Success
	seen.Reports = append(seen.Reports, report)
	for _, category := range said.Categories {
		for _, check := range category.Checks {
			if check.Result == "success" {
				seen.Passed++
				continue
			}
			seen.Findings = append(seen.Findings, results.Finding{
				Category: category.Name, Check: check.Description, Result: check.Result, Error: check.Error,
			})
		}
	}
	return nil
}

// CheckWords counts a check's results.
func CheckWords(seen results.LinkerdCheck) string {
	warnings := 0
	for _, f := range seen.Findings {
		if f.Result == "warning" {
			warnings++
		}
	}
	return fmt.Sprintf("%d passed, %d warned, %d failed", seen.Passed, warnings, len(seen.Findings)-warnings)
}

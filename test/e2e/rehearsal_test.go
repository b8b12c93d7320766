//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"meshsim.dev/meshsim/results"
)

func TestCarefulRolloutFailsNoRequest(t *testing.T) {
	runs := t.ArtifactDir()
	feature := features.New("mtls-rollout-ci").
		Assess("passes", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			out := meshsim(ctx, "run", "mtls-rollout-ci", "--name", clusterName, "--runs", runs)
			if out.code != 0 {
				t.Fatalf("exit code %d, want 0\n%s\n%s", out.code, out.stdout, out.stderr)
			}
			return ctx
		}).
		Assess("leaves evidence for every budget", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			v := readVerdict(t, runs)
			if v.Verdict != results.Pass || v.Requests.Failed != 0 || v.Requests.Total < 1000 {
				t.Errorf("verdict %s with %d of %d requests failed, want a pass with none failed", v.Verdict, v.Requests.Failed, v.Requests.Total)
			}
			if len(v.Budgets) == 0 {
				t.Error("no budget was judged")
			}
			for _, b := range v.Budgets {
				if b.Verdict != results.Pass || b.Measured == "" {
					t.Errorf("budget %q in %q: %s, measured %q", b.Text, b.Phase, b.Verdict, b.Measured)
				}
			}
			return ctx
		}).
		Assess("keeps what Vault, the API server and the shop's twins tell", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			checkUse(t, latest(t, runs))
			return ctx
		}).
		Assess("gives the same verdict from the folder alone", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			out := meshsim(ctx, "report", "latest", "--runs", runs, "--json")
			var again results.Verdict
			if err := json.Unmarshal([]byte(out.stdout), &again); err != nil {
				t.Fatalf("read `report --json`: %v", err)
			}
			if out.code != 0 || again.Requests != readVerdict(t, runs).Requests {
				t.Errorf("exit code %d and requests %+v, want what the run said", out.code, again.Requests)
			}
			return ctx
		}).Feature()
	testenv.Test(t, feature)
}

func TestCarelessRolloutIsCaught(t *testing.T) {
	runs := t.ArtifactDir()
	feature := features.New("mtls-rollout-careless-ci").
		Assess("fails and names requests, step and pods", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			out := meshsim(ctx, "run", "mtls-rollout-careless-ci", "--name", clusterName, "--runs", runs)
			if out.code != 1 {
				t.Fatalf("exit code %d, want 1\n%s\n%s", out.code, out.stdout, out.stderr)
			}
			v := readVerdict(t, runs)
			if v.Verdict != results.Fail || v.Requests.Failed == 0 {
				t.Fatalf("verdict %s with %d failed requests, want a fail that counts them", v.Verdict, v.Requests.Failed)
			}
			var steps, pods bool
			for _, c := range v.Causes {
				steps = steps || len(c.Steps) > 0
				pods = pods || len(c.Pods) > 0
			}
			if !steps || !pods {
				t.Errorf("causes name steps: %t, pods: %t; want both: %+v", steps, pods, v.Causes)
			}
			page, err := os.ReadFile(filepath.Join(latest(t, runs), results.HTMLFile))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"enforce", v.Causes[0].Kind} {
				if !strings.Contains(string(page), want) {
					t.Errorf("report.html does not mention %q", want)
				}
			}
			return ctx
		}).Feature()
	testenv.Test(t, feature)
}

func TestInterruptedRunExits130AndStaysReadable(t *testing.T) {
	runs := t.ArtifactDir()
	feature := features.New("interrupt").
		Assess("a run under way", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			cmd := command(ctx, "run", "mtls-rollout-ci", "--name", clusterName, "--runs", runs)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			awaitRequests(t, runs, 200)
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if out := result(cmd.Wait(), &stdout, &stderr); out.code != 130 {
				t.Fatalf("exit code %d, want 130\n%s", out.code, out.stderr)
			}
			if out := meshsim(ctx, "report", "latest", "--runs", runs); out.code != 3 {
				t.Errorf("report on the cut-off run: exit code %d, want 3 (inconclusive)\n%s", out.code, out.stderr)
			}
			return ctx
		}).Feature()
	testenv.Test(t, feature)
}

// awaitRequests waits until a run has recorded so many requests.
func awaitRequests(t *testing.T, runs string, want int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		files, err := filepath.Glob(filepath.Join(runs, "*", results.RequestsFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if raw, err := os.ReadFile(f); err == nil && bytes.Count(raw, []byte("\n")) >= want {
				return
			}
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("no run recorded %d requests", want)
}

// checkUse looks at the probes of rotation, of Vault's audit log, of webhooks and
// of the shop's twins, and that no token is in the record.
func checkUse(t *testing.T, run string) {
	t.Helper()
	folder, err := results.Open(run)
	if err != nil {
		t.Fatal(err)
	}
	probes, _, err := folder.Probes()
	if err != nil {
		t.Fatal(err)
	}
	var rotation results.VaultRotation
	var audit results.VaultAudit
	phases := map[string]int64{} // calls of webhooks
	var pages results.AddedLatency
	for _, p := range probes {
		var err error
		switch p.Probe {
		case results.ProbeVaultRotation:
			err = json.Unmarshal(p.Data, &rotation)
		case results.ProbeVaultAudit:
			err = json.Unmarshal(p.Data, &audit)
		case results.ProbeWebhooks:
			var seen results.Webhooks
			err = json.Unmarshal(p.Data, &seen)
			for _, c := range seen.Calls {
				phases[seen.Phase] += c.Calls
			}
		case results.ProbeAddedLatency:
			var seen results.AddedLatency
			if err = json.Unmarshal(p.Data, &seen); !seen.PerHop {
				pages = seen
			}
		}
		if err != nil {
			t.Errorf("probe %s: %v", p.Probe, err)
		}
	}
	const secrets = 9 // each service's, and the rotator's own
	if len(rotation.Secrets) != secrets || len(rotation.Certificates) != 2 {
		t.Errorf("the ages of %d secrets and %d certificates, want %d and 2: %+v", len(rotation.Secrets), len(rotation.Certificates), secrets, rotation)
	}
	for _, s := range rotation.Secrets {
		if s.Version != 2 || s.Every != 30*24*time.Hour || s.Age <= 0 || s.Age > time.Hour {
			t.Errorf("a secret that this run wrote and rotated: %+v", s)
		}
	}
	reads := map[string]bool{}
	for _, u := range audit.Uses {
		if u.Operation == "read" && strings.HasPrefix(u.Path, "secret/data/prod-app/") && u.Error == "" {
			reads[u.Role] = true
		}
	}
	if audit.Clear != 0 || len(audit.Missed) != 0 || len(reads) != secrets {
		t.Errorf("Vault's audit log: %d entries in clear, missed %v, secrets read by %v, want none, none, all eight services and the rotator", audit.Clear, audit.Missed, reads)
	}
	if phases["inject"] == 0 || phases["enforce"] == 0 {
		t.Errorf("webhooks were called %v times by phase, want some where pods are made", phases)
	}
	if len(pages.Samples.Meshed) != pages.Planned || pages.Planned == 0 || pages.Path == "" {
		t.Errorf("%d of %d triples of the shop's pages, on %q", len(pages.Samples.Meshed), pages.Planned, pages.Path)
	}
	for _, name := range []string{results.EventsFile, results.ProbesFile} {
		raw, err := os.ReadFile(filepath.Join(run, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hvs.", "hvb.", "hmac-sha256:", "db-password"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
}

func latest(t *testing.T, runs string) string {
	t.Helper()
	path, err := results.Latest(runs)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func readVerdict(t *testing.T, runs string) results.Verdict {
	t.Helper()
	folder, err := results.Open(latest(t, runs))
	if err != nil {
		t.Fatal(err)
	}
	v, err := folder.ReadVerdict()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

// smallest is the least that a scenario can say.
const smallest = `apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: demo}
spec:
  phases:
  - name: baseline
  budgets:
  - failed requests = 0
`

// full has every step, so that every budget has its data.
const full = `apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: demo}
spec:
  evidence: {wire: true, identities: true}
  shop: {databaseReplica: true}
  phases:
  - name: baseline
  - name: stack
    steps: [{autoscale: {service: product-catalog}}, restart-replica, {install: {component: cert-manager}}, {install: {component: vault}}, {install: {component: issuer}}, move-secrets, rotate-secrets, {install: {component: mesh}}, inject, enforce, probe-plaintext, probe-authorisation, measure-added-latency, restart-vault]
  - {name: warm, judged: false, until: {atLeast: 5s}}
  budgets:
  - BUDGET
`

func problemsOf(t *testing.T, text string) []Problem {
	t.Helper()
	_, err := Parse("demo.yaml", []byte(text))
	if err == nil {
		return nil
	}
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	p, ok := errors.AsType[*Problems](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "demo.yaml", p.File)
	return p.All
}

func TestWhatIsNotSaidHasItsDefault(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(smallest))
	require.NoError(t, err)
	require.Empty(t, s.Warnings)
	require.Equal(t, "eks-1.24", s.Spec.Topology)
	require.Equal(t, uint64(1), s.Spec.Seed)
	require.Equal(t, Shop{true, 5, 8, 30, 0, false, nil}, s.Spec.Shop)
	require.Equal(t, Day{1000, 5000}, s.Spec.Traffic.Day)
	require.Equal(t, 90*time.Second, s.Spec.Traffic.CompressTo)
	require.Equal(t, 5*time.Second, s.Spec.Traffic.Timeout)
	require.Equal(t, 50*time.Millisecond, s.Spec.Traffic.MaxLate)
	require.Equal(t, 0.01, s.Spec.Traffic.MaxLateShare)
	require.Equal(t, 40, s.Spec.Traffic.Mix["browse"])
	require.Equal(t, []Phase{{Name: "baseline", Scale: 1, Judged: true, Until: Until{Requests: 6000}}}, s.Spec.Phases)
	require.Equal(t, []string{"failed requests = 0"}, s.BudgetLines())
}

func TestWhatIsSaidIsTaken(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(`
apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: demo, description: a demo}
spec:
  budgets: ["availability >= 99% in two"]
  phases:
  - {name: one, judged: false, scale: 0.5, until: {requests: 10, atLeast: 5s}}
  - name: two
    steps:
    - install: {component: cert-manager}
    - install: {component: vault}
    - install: {component: issuer}
    - install: {component: mesh}
    - move-secrets
    - rotate-secrets: {}
    - inject: {services: [payment-gateway, product-catalog]}
    - inject: {services: all, database: true}
    - await-authenticated
    - await-authenticated: {cycle: 7s}
    - enforce: {policy: deny}
    - measure-added-latency: {triples: 500, payloadBytes: 0}
    - probe-plaintext:
    - restart-vault: {}
  topology: ci
  seed: 18446744073709551615
  shop: {drain: false, drainSeconds: 1, proxyWaitSeconds: 2, terminationGracePeriodSeconds: 3, minReadySeconds: 4, databaseReplica: true, values: {provider: {declineRate: 0.02}, retries: 0}}
  edge: {targets: ip, deregistrationDelaySeconds: 15, slowStartSeconds: 30, algorithm: round_robin, idleTimeoutSeconds: 10}
  traffic:
    day: {requests: 10, launchRequests: 20}
    compressTo: 1m
    timeout: 1s
    maxLate: 10ms
    maxLateShare: 2.5%
    mix: {order: 1, browse: 0}
`))
	require.NoError(t, err)
	require.Empty(t, s.Warnings)
	require.Equal(t, Metadata{"demo", "a demo"}, s.Metadata)
	require.Equal(t, uint64(1<<64-1), s.Spec.Seed)
	require.Equal(t, Shop{false, 1, 2, 3, 4, true, map[string]any{"provider": map[string]any{"declineRate": 0.02}, "retries": 0}}, s.Spec.Shop)
	require.Equal(t, Edge{"ip", 15, 30, "round_robin", 10}, s.Spec.Edge)
	require.Equal(t, Traffic{
		Day: Day{10, 20}, CompressTo: time.Minute, Timeout: time.Second, MaxLate: 10 * time.Millisecond, MaxLateShare: 0.025,
		Mix: map[string]int{"order": 1, "browse": 0}, Sender: Sender{Connections: KeepAlive},
	}, s.Spec.Traffic)
	require.Equal(t, Phase{Name: "one", Scale: 0.5, Until: Until{10, 5 * time.Second}}, s.Spec.Phases[0])
	require.Equal(t, 300, s.Spec.Phases[1].Until.Requests, "what 99 % needs, though budgets stand first")
	var options []any
	var said []string
	for _, step := range s.Spec.Phases[1].Steps {
		options = append(options, step.Options)
		said = append(said, step.String())
	}
	require.Equal(t, []any{
		&Install{Component: "cert-manager"}, &Install{Component: "vault"}, &Install{Component: "issuer"}, &Install{Component: "mesh"}, &MoveSecrets{}, &RotateSecrets{},
		&Inject{[]string{"payment-gateway", "product-catalog"}, false}, &Inject{Database: true}, &AwaitAuthenticated{time.Minute},
		&AwaitAuthenticated{7 * time.Second}, &Enforce{"deny", CallersAny}, &MeasureAddedLatency{500, 0, PathEcho}, &ProbePlaintext{}, &RestartVault{},
	}, options)
	require.Equal(t, "inject payment-gateway, product-catalog", said[6])
	require.Equal(t, "inject all services and the database", said[7])
	require.Equal(t, "enforce deny", said[10])
	require.Equal(t, []string{"two"}, s.Judged())
}

func TestAWholeRequestsAddedLatencyIsMeasuredOnThePathOfTheShop(t *testing.T) {
	raw, err := shipped.ReadFile("mtls-rollout-ci.yaml")
	require.NoError(t, err)
	s, err := Parse("x.yaml", raw)
	require.NoError(t, err)
	verify := s.Spec.Phases[len(s.Spec.Phases)-1].Steps
	require.Equal(t, &MeasureAddedLatency{Triples: 200, Path: PathShop}, verify[1].Options)
	require.Equal(t, "measure-added-latency of the shop with 200 triples", verify[1].String())
	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	require.Contains(t, b.String(), "20 triples, and a difference of plain against plain below 10ms; 200 are planned")
	require.Contains(t, b.String(), "20 triples, and a difference of plain against plain below 10ms; 600 are planned")

	without := strings.Replace(string(raw), "    - measure-added-latency: {path: shop, triples: 200}\n", "", 1)
	problems := problemsOf(t, without)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, `"added latency p50 < 10ms per request": nothing measures it, the scenario has no step measure-added-latency with path: shop`)
	problems = problemsOf(t, strings.Replace(string(raw), "{path: shop, triples: 200}", "{path: shop, payloadBytes: 9}", 1))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "payloadBytes is for path echo")
}

func TestOneWrongThingIsToldWithItsPlace(t *testing.T) {
	phase := func(text string) string { return strings.Replace(smallest, "name: baseline", text, 1) }
	spec := func(text string) string { return strings.Replace(smallest, "spec:\n", "spec:\n  "+text+"\n", 1) }
	for name, c := range map[string]struct {
		text         string
		line, column int
		message      string
	}{
		"an empty file":                 {"", 1, 1, "the file is empty"},
		"no YAML":                       {"a: [", 1, 1, "not YAML: did not find"},
		"no YAML further down":          {"a: 1\nb: @c", 2, 1, "not YAML: found character that cannot start any token"},
		"two documents":                 {smallest + "---\na: 1\n", 9, 1, "a scenario file holds one document"},
		"a list":                        {"- a", 1, 1, "the scenario should be a mapping, not a list"},
		"an unknown key":                {spec("colour: red"), 5, 3, `unknown key "colour" in spec; known are: budgets, edge, evidence, overrides, phases, seed`},
		"an unknown key deep inside":    {phase("name: a\n    until: {request: 5}"), 7, 13, `unknown key "request" in until; known are: atLeast, requests`},
		"a key twice":                   {spec("seed: 1\n  seed: 2"), 6, 3, `key "seed" is given twice in spec`},
		"a missing key":                 {strings.Replace(smallest, "metadata: {name: demo}\n", "", 1), 1, 1, `the scenario needs the key "metadata"`},
		"another kind":                  {strings.Replace(smallest, "kind: Scenario", "kind: Topology", 1), 2, 7, `kind should be one of Scenario, not "Topology"`},
		"another version":               {strings.Replace(smallest, "v1alpha1", "v2", 1), 1, 13, `apiVersion should be one of meshsim.dev/v1alpha1, not "meshsim.dev/v2"`},
		"a bad name":                    {strings.Replace(smallest, "name: demo", "name: My Demo", 1), 3, 18, `name "My Demo" should be lower-case letters`},
		"a text for a number":           {spec(`seed: "5"`), 5, 9, `seed should be a whole number from 0 on, not "5"`},
		"a negative seed":               {spec("seed: -5"), 5, 9, "seed should be a whole number from 0 on, not -5"},
		"a text for a truth":            {spec("shop: {drain: yes please}"), 5, 17, `drain should be true or false, not "yes please"`},
		"a number out of range":         {spec("shop: {drainSeconds: 601}"), 5, 24, "drainSeconds should be a whole number from 0 to 600, not 601"},
		"values that are not asked for": {spec("shop: {values: {images: {}}}"), 5, 19, `values may be of: failFast, orders, provider, reservations, retries; not "images"`},
		"values that are no mapping":    {spec("shop: {values: 5}"), 5, 18, "values should be a mapping, not the number 5"},
		"values that do not fit":        {spec("shop: {values: {provider: {declineRate: 2}}}"), 5, 18, "values are not the shop's (docs/shop.md): provider.declineRate: "},
		"another kind of target":        {spec("edge: {targets: lambda}"), 5, 19, `targets should be one of ip, instance, not "lambda"`},
		"slow start and least busy":     {spec("edge: {slowStartSeconds: 30, algorithm: least_outstanding_requests}"), 5, 9, "slow start does not go with least_outstanding_requests, as at AWS"},
		"a broken number":               {spec("shop: {drainSeconds: 1.5}"), 5, 24, `drainSeconds should be a whole number from 0 to 600, not "1.5"`},
		"a duration without unit":       {spec("traffic: {compressTo: 90}"), 5, 25, "compressTo should be a duration such as 90s, not the number 90"},
		"a duration out of range":       {spec("traffic: {compressTo: 1ms}"), 5, 25, "compressTo should be from 1s to 24h0m0s, not 1ms"},
		"a share without percent":       {spec("traffic: {maxLateShare: 0.01}"), 5, 27, "maxLateShare should be a percentage from 0% to 100%, such as 1%"},
		"a share that is no number":     {spec("traffic: {maxLateShare: NaN%}"), 5, 27, "maxLateShare should be a percentage"},
		"an unknown route":              {spec("traffic: {mix: {brwse: 1}}"), 5, 19, `unknown key "brwse" in mix; known are: browse, configure`},
		"a mix of nothing":              {spec("traffic: {mix: {browse: 0}}"), 5, 18, "the mix should give weight to at least one route"},
		"a launch that is none":         {spec("traffic: {day: {requests: 10, launchRequests: 5}}"), 5, 12, "launchRequests (5) is the whole launch day"},
		"no phases":                     {strings.Replace(smallest, "  phases:\n  - name: baseline\n", "  phases: []\n", 1), 1, 1, "a scenario needs at least one phase"},
		"no budgets":                    {strings.Replace(smallest, "budgets:\n  - failed requests = 0", "budgets: []", 1), 1, 1, "a scenario needs at least one budget"},
		"two phases of one name":        {phase("name: a\n  - name: a"), 7, 5, `two phases are named "a"`},
		"a phase that ends at once":     {phase("name: a\n    judged: false"), 6, 5, `phase "a" has no steps and nothing to wait for`},
		"a scale of nothing":            {phase("name: a\n    scale: 0"), 7, 12, "scale should be a number above 0 and up to 1000, not 0"},
		"a scale that is no number":     {phase("name: a\n    scale: .nan"), 7, 12, "scale should be a number above 0"},
		"an unknown step":               {phase("name: a\n    steps: [instal]"), 7, 13, `unknown step "instal"; known are: install, move-secrets, rotate-secrets, inject`},
		"a step of two":                 {phase("name: a\n    steps: [{inject: {}, enforce: {}}]"), 7, 13, "a step should be one name with its options"},
		"an unknown option":             {phase("name: a\n    steps: [{restart-vault: {now: true}}]"), 7, 30, `unknown key "now" in step restart-vault; known are: none`},
		"an option that is missing":     {phase("name: a\n    steps: [install]"), 7, 13, `step install needs the key "component"`},
		"an unknown component":          {phase("name: a\n    steps: [{install: {component: istio}}]"), 7, 35, "component should be one of metrics-server, monitoring"},
		"an unknown service":            {phase("name: a\n    steps: [{inject: {services: [cart]}}]"), 7, 34, "service should be one of product-catalog"},
		"no services":                   {phase("name: a\n    steps: [{install: {component: cert-manager}}, {install: {component: vault}}, {install: {component: issuer}}, {install: {component: mesh}}, {inject: {services: []}}]"), 7, 164, "services should name at least one"},
		"evidence that there is not":    {spec("evidence: {logs: true}"), 5, 14, `unknown key "logs" in evidence; known are: identities, wire`},
		"other callers":                 {phase("name: a\n    steps: [{enforce: {callers: all}}]"), 7, 33, `callers should be one of any, declared, not "all"`},
		"trying who gets in too soon":   {phase("name: a\n    steps: [probe-authorisation]"), 7, 13, "step probe-authorisation needs install mesh before it"},
		"renewing what is not in Vault": {phase("name: a\n    steps: [rotate-secrets]"), 7, 13, "step rotate-secrets needs move-secrets before it"},
		"an unknown policy":             {phase("name: a\n    steps: [{enforce: {policy: allow}}]"), 7, 32, "policy should be one of all-authenticated"},
		"a step before what it needs":   {phase("name: a\n    steps: [{install: {component: cert-manager}}, {install: {component: issuer}}]"), 7, 51, "step install issuer needs install vault before it"},
		"a budget of unknown words":     {strings.Replace(smallest, "failed requests = 0", "failures = 0", 1), 8, 5, `budget "failures = 0": no budget begins with "failures"`},
		"a budget's column":             {strings.Replace(smallest, "failed requests = 0", "failed requests > 0", 1), 8, 21, `">" should be = or <=`},
		"a quoted budget's column":      {strings.Replace(smallest, "failed requests = 0", `"failed requests > 0"`, 1), 8, 22, `">" should be = or <=`},
		"a budget that is no text":      {strings.Replace(smallest, "failed requests = 0", "5", 1), 8, 5, "a budget should be one line of text, not the number 5"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := problemsOf(t, c.text)
			i := slices.IndexFunc(problems, func(p Problem) bool { return strings.Contains(p.Message, c.message) })
			require.GreaterOrEqual(t, i, 0, "%+v", problems)
			require.Equal(t, [2]int{c.line, c.column}, [2]int{problems[i].Line, problems[i].Column}, "%+v", problems)
		})
	}
}

func TestAllThatIsWrongIsToldAtOnceInOrder(t *testing.T) {
	_, err := Parse("my.yaml", []byte(`apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: demo}
spec:
  seeds: 5
  traffic: {timeout: 5}
  budgets:
  - availability > 5
  - mtls calls = 100%
  phases:
  - {name: a, jugded: true}
`))
	require.EqualError(t, err, strings.Join([]string{
		`my.yaml:5:3: unknown key "seeds" in spec; known are: budgets, edge, evidence, overrides, phases, seed, shop, topology, traffic`,
		`my.yaml:6:22: timeout should be a duration such as 90s, not the number 5`,
		`my.yaml:8:18: budget "availability > 5": ">" should be >=`,
		`my.yaml:9:5: budget "mtls calls = 100%": nothing measures it, the scenario has no step install mesh`,
		`my.yaml:11:15: unknown key "jugded" in a phase; known are: judged, name, scale, steps, until`,
		`  mend: docs/scenarios.md tells every key`,
	}, "\n"))
}

func TestABudgetOnDataThatTheScenarioCannotProduceIsRefused(t *testing.T) {
	budgets := map[string]string{ // to what is missing in the smallest scenario
		"added latency p99 < 10ms per hop":               "no step measure-added-latency",
		"injected pods = 100%":                           "no step install mesh",
		"mtls calls = 100%":                              "no step install mesh",
		"plaintext calls accepted = 0":                   "no step probe-plaintext after enforce",
		"issuer certificate lasts 90d, renewed 7d early": "no step install issuer",
		"vault unsealed by itself":                       "no step restart-vault",
		"vault sealed < 60s":                             "no step install vault",
		"vault secrets rotated every 30d":                "no step rotate-secrets",
		"vault secrets at most 30d old":                  "no step move-secrets",
		"vault certificates at most 83d old":             "no step install mesh",
		"proxy memory < 50MiB":                           "no step install mesh",
		"proxy certificates chained = 100%":              "no step install mesh",
		"plaintext flows = 0":                            "add wire: true",
		"unauthorised calls admitted = 0":                "no step probe-authorisation",
		"autoscalers measured = 100%":                    "no step autoscale",
		"autoscaled replicas >= 4":                       "no step autoscale",
		"autoscaler warnings = 0":                        "no step autoscale",
		"replica lag < 1MiB":                             "there may be no replica to measure: add databaseReplica: true",
		"writes replicated within 5s":                    "there may be no replica to measure: add databaseReplica: true",
		"replica back within 1m":                         "no step restart-replica",
		"failed requests = 0 during step enforce":        "the scenario has no steps",
		"failed requests = 0 in soak":                    `there is no phase "soak"; there are: baseline`,
	}
	for text, want := range budgets {
		t.Run(text, func(t *testing.T) {
			problems := problemsOf(t, strings.Replace(smallest, "failed requests = 0", text, 1))
			require.Len(t, problems, 1)
			require.Contains(t, problems[0].Message, want)
			if !strings.Contains(text, "soak") {
				require.Empty(t, problemsOf(t, strings.Replace(full, "BUDGET", text, 1)), "with the step it is fine")
			}
		})
	}
	for text, want := range map[string]string{
		"added latency p99 < 10ms per request":                       "no step measure-added-latency with path: shop",
		"failed requests = 0 in warm":                                `phase "warm" is not judged`,
		"mtls calls = 100% in baseline":                              `phase "baseline" comes before install mesh`,
		"availability >= 99.95%\n  - availability >= 99.95%":         "is given twice",
		"failed requests = 0 in baselin":                             `did you mean "baseline"?`,
		"failed requests = 0 during step install":                    "there are 4 steps install: say which, as install:option or install#2",
		"failed requests = 0 during step install:linkerd":            `no step install has "linkerd" among its options`,
		"failed requests = 0 during step install#5":                  "there is no step install#5: there are 4",
		"failed requests = 0 during step injekt":                     `there is no step "injekt"`,
		"failed requests = 0 from step enforce to step install:mesh": "its window ends before it begins",
		"failed requests = 0 of route ordr":                          `there is no route "ordr"; there are: browse`,
		"failed requests = 0 of service payment-gatway":              `did you mean "payment-gateway"?`,
		"autoscaled replicas = 3 in baseline":                        `phase "baseline" comes before autoscale`,
		"autoscaled replicas = 3 of service order-processing":        "no step autoscale is for order-processing",
		"failed requests = 0 of status five":                         "a status should be HTTP's or gRPC's number",
	} {
		t.Run(text, func(t *testing.T) {
			problems := problemsOf(t, strings.Replace(full, "BUDGET", text, 1))
			require.Len(t, problems, 1)
			require.Contains(t, problems[0].Message, want)
		})
	}
	for _, fine := range []string{
		"failed requests = 0 for 30s after step install:mesh", "restarts = 0 from end of step install#2 to step enforce",
		"recovery within 30s after begin of step restart-vault", "recovery within 30s after event node:not-ready",
		"failed calls = 0 of service payment-gateway and caller order-processing", "promql 'up' = 1",
	} {
		require.Empty(t, problemsOf(t, strings.Replace(full, "BUDGET", fine, 1)), fine)
	}
	blind := strings.Replace(full, "identities: true", "identities: false", 1)
	problems := problemsOf(t, strings.Replace(blind, "BUDGET", "proxy certificates chained = 100%", 1))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "nothing measures it: add identities: true to the scenario's evidence")
	noOrders := strings.Replace(full, "  phases:", "  traffic: {mix: {browse: 1}}\n  phases:", 1)
	problems = problemsOf(t, strings.Replace(noOrders, "BUDGET", "orders lost or doubled = 0", 1))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "the mix has no order traffic")
	problems = problemsOf(t, strings.Replace(smallest, "name: baseline", "{name: a, judged: false, until: {atLeast: 1s}}", 1))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "no phase is judged")
	early := strings.Replace(full, "enforce, probe-plaintext", "probe-plaintext, enforce", 1)
	problems = problemsOf(t, strings.Replace(early, "BUDGET", "plaintext calls accepted = 0", 1))
	require.Len(t, problems, 1, "tried before enforcement says nothing about after")
}

func TestWhatIsHardlyMeantIsAWarning(t *testing.T) {
	s, err := Parse("x.yaml", []byte(strings.Replace(smallest, "name: baseline", "{name: a, until: {requests: 50}}", 1)))
	require.NoError(t, err)
	require.Equal(t, []string{"phase a may end after 50 requests but needs 6000 to be conclusive"}, s.Warnings)
	s, err = Parse("x.yaml", []byte(strings.Replace(smallest, "spec:\n", "spec:\n  shop: {proxyWaitSeconds: 40}\n", 1)))
	require.NoError(t, err)
	require.Len(t, s.Warnings, 1)
	require.Contains(t, s.Warnings[0], "pods will be killed")
}

func TestAnAliasStandsForWhatItNames(t *testing.T) {
	s, err := Parse("x.yaml", []byte(strings.Replace(smallest, "- name: baseline",
		"- {name: a, until: &u {requests: 7000}}\n  - {name: b, until: *u}", 1)))
	require.NoError(t, err)
	require.Equal(t, 7000, s.Spec.Phases[1].Until.Requests)
}

func TestLoadFindsShippedOnesByNameAndOthersByPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(path, []byte(smallest), 0o644))
	s, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, path, s.Source)
	s, err = Load("mtls-rollout")
	require.NoError(t, err)
	require.Equal(t, "mtls-rollout.yaml", s.Source)
	for name, want := range map[string]string{
		"mtls-rolout":    `no shipped scenario is named "mtls-rolout"; there are: canary-ci, database-mesh-ci, in-cluster-load-ci, journeys-ci, mtls-rollout, mtls-rollout-careless`,
		"./missing.yaml": "scenario file ./missing.yaml is not there",
		"missing.yml":    "scenario file missing.yml is not there",
		t.TempDir():      "read scenario",
	} {
		_, err := Load(name)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

func TestEveryShippedScenarioIsValidNamedAsItsFileAndWarnsOfNothing(t *testing.T) {
	all, err := Shipped()
	require.NoError(t, err)
	require.Len(t, all, 9)
	for _, summary := range all {
		s, err := Load(summary.Name)
		require.NoError(t, err)
		require.Empty(t, s.Warnings, summary.Name)
		require.NotEmpty(t, summary.Description)
	}
	careful, err := Load("mtls-rollout")
	require.NoError(t, err)
	require.LessOrEqual(t, careful.Plan().AtLeast, 20*time.Minute)
	require.True(t, careful.Spec.Shop.Drain)
	careless, err := Load("mtls-rollout-careless")
	require.NoError(t, err)
	require.False(t, careless.Spec.Shop.Drain)
}

func FuzzParse(f *testing.F) {
	f.Add(smallest)
	f.Add(full)
	for _, name := range shippedNames() {
		raw, err := shipped.ReadFile(name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Add("spec: &a\n  phases: *a")
	f.Add("? [a]\n: b")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x.yaml", []byte(text))
		if err == nil {
			s.Plan()
			if len(s.Spec.Phases) == 0 || len(s.Spec.Budgets) == 0 {
				t.Fatal("a scenario without phases or budgets is valid")
			}
			if err := s.Explain(&strings.Builder{}); err != nil {
				t.Fatal(err)
			}
			return
		}
		p, ok := errors.AsType[*Problems](err)
		if !ok || fault.KindOf(err) != fault.Invalid || len(p.All) == 0 {
			t.Fatalf("not a list of problems: %v", err)
		}
		for _, one := range p.All {
			if one.Line < 1 || one.Column < 1 || one.Message == "" {
				t.Fatalf("a problem without place or words: %+v", one)
			}
		}
	})
}

package scenarios

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios/journey"
	"meshsim.dev/meshsim/scenarios/shape"
)

func TestTheShopsJourneysAreShipped(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(spec("    journeys: shop\n    shape: {constant: 20}\n")))
	require.NoError(t, err)
	tr := s.Spec.Traffic
	require.Equal(t, shape.Constant(20).String(), tr.Arriving().String())
	require.InDelta(t, 20, tr.Rates().Rate(time.Hour), 1e-9)
	require.InDelta(t, 20, tr.MeanRate(1), 1e-9)
	require.Less(t, tr.Rates().Rate(0), 20., "later steps are still to come")
	for _, route := range []string{"browse", "search", "configure", "order", "customer", "recommend"} {
		require.True(t, tr.Sends(route), route)
	}
	require.False(t, tr.Sends("grpc-stock"))

	recorded := s.RecordedTraffic()
	require.Nil(t, recorded.Mix)
	require.Contains(t, recorded.Shape, "constant 20/s, later by ")
	again, err := journey.New(*recorded.Journeys)
	require.NoError(t, err, "a run's record is enough to walk again")
	require.Equal(t, tr.Journeys.Routes(), again.Routes())

	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	require.Contains(t, b.String(), "Customers make journeys of ")
}

func TestTheSharesOfTheShopsJourneysAreAboutTheMixs(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(spec("    journeys: shop\n")))
	require.NoError(t, err)
	routes, steps := s.Spec.Traffic.Journeys.Routes(), s.Spec.Traffic.Journeys.Steps()
	for route, share := range map[string]float64{"browse": 0.45, "search": 0.16, "configure": 0.15, "order": 0.07, "customer": 0.07, "recommend": 0.10} {
		require.InDelta(t, share, routes[route]/steps, 0.03, route)
	}
}

func TestWhatIsPlannedOfARouteFollowsTheJourneysAndNotTheUsualMix(t *testing.T) {
	s, err := Load("journeys-ci")
	require.NoError(t, err)
	routes, steps := s.Spec.Traffic.Journeys.Routes(), s.Spec.Traffic.Journeys.Steps()
	require.InDelta(t, routes["order"]/steps, s.Spec.Traffic.weight("order"), 1e-5)
	require.Zero(t, s.Spec.Traffic.weight("grpc-stock"), "no journey comes there, though the usual mix does")
	b := s.Spec.Budgets[1]
	require.Equal(t, "failed requests = 0 shown to 95% of route order in soak", b.Text)
	needs := s.needs(b, s.Plan())
	require.Len(t, needs, 1)
	require.Contains(t, needs[0], "60 requests without a failure in soak; at least ")
}

func TestJourneysCanBeWrittenInPlace(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(spec(`    journeys:
      longest: 3
      kinds:
      - name: one
        think: {median: 10ms, p90: 20ms}
        start: {look: 1}
        steps:
          look: {route: browse, then: {order: 1, leave: 1}, think: {median: 1s, p90: 2s}}
          order: {then: {leave: 1}}
`)))
	require.NoError(t, err)
	require.Equal(t, journey.Set{Longest: 3, Kinds: []journey.Kind{{
		Name: "one", Weight: 1, Think: journey.Think{Median: 10 * time.Millisecond, P90: 20 * time.Millisecond}, Start: map[string]int{"look": 1},
		Steps: map[string]journey.Step{
			"look":  {Route: "browse", Then: map[string]int{"order": 1, "leave": 1}, Think: &journey.Think{Median: time.Second, P90: 2 * time.Second}},
			"order": {Route: "order", Then: map[string]int{"leave": 1}},
		},
	}}}, s.Spec.Traffic.Journeys.Set())
	require.Equal(t, map[string]int{"browse": 1_000_000, "order": 500_000}, s.Spec.Traffic.Weights())
}

func TestJourneysAndSendersThatCannotBeAreRefused(t *testing.T) {
	one := func(edit string) string {
		return "    journeys: {kinds: [{name: one, start: {browse: 1}, steps: {browse: {then: {leave: 1}}}, " + edit + "}]}\n"
	}
	for name, c := range map[string]struct{ traffic, want string }{
		"unknown shipped ones":      {"    journeys: shopkeeper\n", `no shipped journeys are named "shopkeeper"; there are: shop`},
		"a list":                    {"    journeys: []\n", "journeys should be the name of shipped ones, or a mapping"},
		"no kinds":                  {"    journeys: {longest: 3}\n", `journeys needs the key "kinds"`},
		"an empty list of kinds":    {"    journeys: {kinds: []}\n", "there is no kind of journey"},
		"an unknown key":            {one("colour: red"), `unknown key "colour" in a kind of journey`},
		"a key given twice":         {strings.Replace(one("weight: 1"), "leave: 1", "leave: 1, leave: 2", 1), `key "leave" is given twice in then`},
		"an unknown next step":      {strings.Replace(one("weight: 1"), "leave: 1", "fly: 1", 1), `journey one: after browse: there is no step "fly"`},
		"a step of no route":        {strings.Replace(one("weight: 1"), "browse: {then", "fly: {then", 1), `step "fly" needs a route`},
		"an unknown route":          {strings.Replace(one("weight: 1"), "{then", "{route: fly, then", 1), "route should be one of browse, search"},
		"a step called leave":       {strings.Replace(one("weight: 1"), "browse: {then", "leave: {route: browse, then", 1), `"leave" ends a journey`},
		"half a pause":              {one("think: {median: 1s}"), `think needs the key "p90"`},
		"journeys beside a mix":     {"    journeys: shop\n    mix: {browse: 1}\n", "a mix or journeys, which bring their own routes"},
		"an unknown connection":     {"    sender: {connections: pigeon}\n", "connections should be one of keep-alive, new, http2"},
		"HTTP/2 to a load balancer": {"    sender: {connections: http2}\n", "HTTP listener speaks HTTP/1.1 only"},
		"less than no connections":  {"    sender: {maxConnections: -1}\n", "maxConnections should be a whole number from 0 to 60000"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := problemsOf(t, spec(c.traffic))
			require.NotEmpty(t, problems)
			found := false
			for _, p := range problems {
				found = found || strings.Contains(p.Message, c.want)
			}
			require.True(t, found, "%v", problems)
		})
	}
}

func TestJourneysBesideAReplayAreRefused(t *testing.T) {
	problems := problemsOf(t, spec("    journeys: shop\n    replay: {file: "+record(t, 20, "browse")+"}\n"))
	require.Contains(t, problems[0].Message, "journeys or a replay, not both")
}

func TestHowConnectionsAreTreatedCanBeSaid(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(spec("    sender: {connections: new, maxConnections: 7}\n")))
	require.NoError(t, err)
	require.Equal(t, Sender{NewConnections, 7}, s.Spec.Traffic.Sender)
	require.Equal(t, "new", s.RecordedTraffic().Connections)
	require.Equal(t, 7, s.RecordedTraffic().MaxConnections)
}

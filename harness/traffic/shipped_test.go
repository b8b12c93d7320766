package traffic

import (
	"encoding/binary"
	"hash/fnv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios"
)

// What a shipped scenario sends in its first three days, in numbers: a run may
// be compared with an older one only while these stay.
func TestShippedScenariosSendWhatTheyAlwaysSent(t *testing.T) {
	type day struct {
		arrivals int
		hash     uint64
	}
	for name, want := range map[string]day{
		"mtls-rollout":             {24746, 0x56211c3e0f9cc732},
		"mtls-rollout-careless":    {24746, 0x56211c3e0f9cc732},
		"mtls-rollout-ci":          {24746, 0xb2b467194f4bb8da},
		"mtls-rollout-careless-ci": {24746, 0xb2b467194f4bb8da},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := scenarios.Load(name)
			require.NoError(t, err)
			plan, err := newSenderPlan(s.Spec.Traffic.Mix)
			require.NoError(t, err)
			tr := s.Spec.Traffic
			var got day
			h := fnv.New64a()
			// the scale of the second half of each day is a soak's
			scale := func(at time.Duration) float64 { return 1 + float64(at/(tr.CompressTo/2)%2) }
			for stream, share := range []float64{plan.share["http"], plan.share["grpc-get-product"], plan.share["grpc-stock"]} {
				for n, at := range until(NewArrivals(tr.Rates(), share, s.Spec.Seed, uint64(stream), scale), 3*tr.CompressTo, time.Second) {
					require.NoError(t, binary.Write(h, binary.LittleEndian, int64(at)))
					_, _ = h.Write([]byte(plan.http.pick(draw(s.Spec.Seed, routeStream, uint64(n)))))
					got.arrivals++
				}
			}
			got.hash = h.Sum64()
			require.Equal(t, want, got)
		})
	}
}

// The same of customers on journeys, who do not take the mix's way.
func TestShippedJourneysGoAsTheyAlwaysWent(t *testing.T) {
	s, err := scenarios.Load("journeys-ci")
	require.NoError(t, err)
	h := fnv.New64a()
	all := lanesUntil(t, s.Spec.Traffic, s.Spec.Seed, 5*time.Minute, time.Second)
	for _, a := range all {
		require.NoError(t, binary.Write(h, binary.LittleEndian, int64(a.at)))
		_, _ = h.Write([]byte(a.route))
	}
	require.Equal(t, 5954, len(all))
	require.Equal(t, uint64(0x2e9e7ddbb74e4e9), h.Sum64())
}

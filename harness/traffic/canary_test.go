package traffic

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
)

func TestEveryTraceOfASeedBeginsWithItsCanary(t *testing.T) {
	seen := map[string]bool{}
	for n := range uint64(1000) {
		value := trace(7, n)
		require.Regexp(t, regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`), value)
		require.Equal(t, Canary(7), value[3:19])
		seen[value[3:35]] = true
	}
	require.Len(t, seen, 1000, "and each has an id of its own")
	require.NotEqual(t, Canary(7), Canary(8))
}

func TestTheCanaryIsFoundInACompressedHeader(t *testing.T) {
	planted := Planted(7)
	for n := range uint64(100) {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: "grpc-timeout", Value: "1S"}, {Name: traceHeader, Value: trace(7, n)}} {
			require.NoError(t, enc.WriteField(f))
		}
		require.True(t, bytes.Contains(block.Bytes(), planted["canary, compressed"]))
		require.False(t, bytes.Contains(block.Bytes(), Planted(8)["canary, compressed"]), "another run's")
	}
	require.GreaterOrEqual(t, len(planted["canary, compressed"]), 10, "too long to turn up by chance")
}

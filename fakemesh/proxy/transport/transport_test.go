package transport

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAHeaderIsReadAsItWasWrittenAndNothingMore(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, WriteHeader(&b, 5432))
	b.WriteString("data")
	port, err := ReadHeader(&b)
	require.NoError(t, err)
	require.EqualValues(t, 5432, port)
	require.Equal(t, "data", b.String())
}

func TestWhatIsNoHeaderIsRefused(t *testing.T) {
	for in, says := range map[string]string{
		"":             "EOF",
		"l5dp":         "EOF",
		"GET / HTTP":   "no transport header",
		"l5dp\x00\x00": "names no port",
	} {
		_, err := ReadHeader(strings.NewReader(in))
		require.ErrorContains(t, err, says, in)
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("l5dp\x15\x38"))
	f.Fuzz(func(t *testing.T, b []byte) {
		port, err := ReadHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if WriteHeader(&again, port) != nil || !bytes.HasPrefix(b, again.Bytes()) {
			t.Fatalf("%x was read as port %d", b, port)
		}
	})
}

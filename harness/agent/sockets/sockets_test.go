package sockets

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func TestTheKernelsTableIsRead(t *testing.T) {
	got, err := List(fstest.MapFS{
		"net/tcp": {Data: []byte(heading +
			"   0: 0100007F:102C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  2102        0 4242 1 0 100 0 0 10 0\n" +
			"   1: 0A01F40A:9C40 0B01F40A:102F 01 00000000:00000000 00:00000000 00000000  2102        0 4243 1 0 20 4 30 10 -1\n" +
			"   2: 0A01F40A:9C41 0B01F40A:1F90 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0\n")},
		"net/tcp6": {Data: []byte(heading +
			"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n" +
			"   1: 0000000000000000FFFF00000A01F40A:1F90 0000000000000000FFFF00000B01F40A:9C42 01 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n")},
	})
	require.NoError(t, err)
	at := netip.MustParseAddrPort
	require.Equal(t, []Socket{
		{at("127.0.0.1:4140"), at("0.0.0.0:0"), "listen", 2102},
		{at("10.244.1.10:40000"), at("10.244.1.11:4143"), "established", 2102},
		{at("10.244.1.10:40001"), at("10.244.1.11:8080"), "other", 0},
		{at("[::]:8080"), at("[::]:0"), "listen", 0},
		{at("10.244.1.10:8080"), at("10.244.1.11:40002"), "established", 0},
	}, got)
}

func TestThisMachinesOwnListenerIsFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	all, err := List(os.DirFS("/proc"))
	require.NoError(t, err)
	want := Socket{Local: netip.MustParseAddrPort(l.Addr().String()), Remote: netip.MustParseAddrPort("0.0.0.0:0"), State: "listen", UID: os.Getuid()}
	require.Contains(t, all, want)
}

func TestAKernelWithoutIPv6HasOneTable(t *testing.T) {
	got, err := List(fstest.MapFS{"net/tcp": {Data: []byte(heading)}})
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = List(fstest.MapFS{})
	require.ErrorContains(t, err, "net/tcp")
}

func TestABrokenTableIsNoEmptyOne(t *testing.T) {
	for name, line := range map[string]string{
		"too few columns": "0: 00000000:0000 00000000:0000 0A",
		"no address":      "0: nonsense 00000000:0000 0A 0:0 0:0 0 0 0",
		"half a word":     "0: 000000:0000 00000000:0000 0A 0:0 0:0 0 0 0",
		"no port":         "0: 00000000 00000000:0000 0A 0:0 0:0 0 0 0",
		"a port too big":  "0: 00000000:10000 00000000:0000 0A 0:0 0:0 0 0 0",
		"no remote":       "0: 00000000:0000 x 0A 0:0 0:0 0 0 0",
		"no owner":        "0: 00000000:0000 00000000:0000 0A 0:0 0:0 0 root 0",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(strings.NewReader(heading + line + "\n"))
			require.Error(t, err)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(heading + "0: 0100007F:102C 00000000:0000 0A 0:0 0:0 0 2102 0\n")
	f.Add(heading + "0: 00000000000000000000000000000000:1F90 00000000:0000 01 0:0 0:0 0 0 0\n")
	f.Fuzz(func(t *testing.T, table string) {
		all, err := parse(strings.NewReader(table))
		if err != nil {
			return
		}
		for _, s := range all {
			if !s.Local.IsValid() || !s.Remote.IsValid() || s.State == "" {
				t.Fatalf("%q gives %+v", table, s)
			}
		}
	})
}

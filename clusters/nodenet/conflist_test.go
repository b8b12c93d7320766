package nodenet

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/stretchr/testify/require"
)

func TestTheConfigurationIsForTheNodesOwnRange(t *testing.T) {
	text, err := Conflist(netip.MustParsePrefix("10.244.3.0/24"), 1450)
	require.NoError(t, err)
	require.JSONEq(t, `{
	  "cniVersion": "0.4.0", "name": "nodenet",
	  "plugins": [
	    {"type": "ptp", "ipMasq": false, "mtu": 1450, "ipam": {
	      "type": "host-local", "dataDir": "/run/cni-ipam-state",
	      "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.244.3.0/24"}]]}},
	    {"type": "portmap", "capabilities": {"portMappings": true}}
	  ]}`, string(text))
	for _, bad := range []netip.Prefix{{}, netip.MustParsePrefix("fd00::/64")} {
		_, err := Conflist(bad, 1500)
		require.ErrorContains(t, err, "no IPv4 range")
	}
}

func TestTheConfigurationIsWrittenOnceAndWhole(t *testing.T) {
	dir := t.TempDir()
	for i, step := range []struct {
		text    string
		changed bool
	}{{"one", true}, {"one", false}, {"two", true}} {
		changed, err := WriteConflist(dir, []byte(step.text))
		require.NoError(t, err)
		require.Equal(t, step.changed, changed, "step %d", i)
		got, err := os.ReadFile(filepath.Join(dir, ConflistName))
		require.NoError(t, err)
		require.Equal(t, step.text, string(got))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	_, err = WriteConflist(filepath.Join(dir, "gone"), []byte("x"))
	require.ErrorContains(t, err, "write the CNI configuration")
}

func TestTheMasqueradeRuleMatchesTheOwnPodsLeavingTheClusterRange(t *testing.T) {
	rule := masqueradeRule(netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("10.244.0.0/16"))
	require.Equal(t, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{255, 255, 255, 0}, Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{10, 244, 3, 0}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{255, 255, 0, 0}, Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{10, 244, 0, 0}},
		&expr.Counter{}, &expr.Masq{},
	}, rule)
}

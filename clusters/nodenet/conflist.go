package nodenet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// ConflistName is the file that the container runtime finds the network in.
const ConflistName = "10-nodenet.conflist"

// Conflist is the CNI configuration for a node's pod range: a veth pair for
// each pod, addresses from the range, and host ports. mtu is in bytes.
func Conflist(pods netip.Prefix, mtu int) ([]byte, error) {
	if !pods.IsValid() || !pods.Addr().Is4() {
		return nil, fmt.Errorf("pod range %s is no IPv4 range", pods)
	}
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": "0.4.0",
		"name":       "nodenet",
		"plugins": []object{
			{
				"type": "ptp", "ipMasq": false, "mtu": mtu,
				"ipam": object{
					"type": "host-local", "dataDir": "/run/cni-ipam-state",
					"routes": []object{{"dst": "0.0.0.0/0"}},
					"ranges": [][]object{{{"subnet": pods.String()}}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
}

// WriteConflist writes the configuration into dir, whole or not at all, and
// says whether that changed anything.
func WriteConflist(dir string, text []byte) (changed bool, err error) {
	name := filepath.Join(dir, ConflistName)
	old, err := os.ReadFile(name)
	if err == nil && string(old) == string(text) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read the CNI configuration: %w", err)
	}
	// The runtime watches the folder for *.conflist: the temporary name is none.
	if err := os.WriteFile(name+".part", text, 0o644); err != nil {
		return false, fmt.Errorf("write the CNI configuration: %w", err)
	}
	if err := os.Rename(name+".part", name); err != nil {
		return false, fmt.Errorf("write the CNI configuration: %w", err)
	}
	return true, nil
}

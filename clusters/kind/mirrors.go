package kind

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// registryPort is where the bundle's registry listens, in its own container.
const registryPort = 5000

// registryURL is the bundle's registry as the nodes reach it.
func registryURL(cluster string) string {
	return fmt.Sprintf("http://%s:%d", registryName(cluster), registryPort)
}

// writeMirrors writes containerd's hosts.toml of each registry host. The nodes
// have the folder mounted, so a standing cluster sees a change at once.
func writeMirrors(dir string, hosts map[string]string) error {
	for host, text := range hosts {
		folder := filepath.Join(dir, mirrorFolder(host))
		err := os.MkdirAll(folder, 0o755)
		if err == nil {
			err = writeFile(filepath.Join(folder, "hosts.toml"), []byte(text))
		}
		if err != nil {
			return fmt.Errorf("write where nodes pull from: %w", err)
		}
	}
	return nil
}

// mirrorFolder is where containerd looks for a host: not every filesystem takes
// the colon before a port.
func mirrorFolder(host string) string {
	if name, port, ok := strings.Cut(host, ":"); ok {
		return name + "_" + port + "_"
	}
	return host
}

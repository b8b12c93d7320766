package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

func recordPath(d cache.Dir, name string) string {
	return filepath.Join(d.Cluster(name), "cluster.json")
}

func kubeconfigPath(d cache.Dir, name string) string {
	return filepath.Join(d.Cluster(name), "kubeconfig")
}

// certsDir is mounted into the nodes: containerd's table of where to pull from.
func certsDir(d cache.Dir, name string) string { return filepath.Join(d.Cluster(name), "certs.d") }

// awsDir is mounted into the AWS stand-in: its kubeconfig.
func awsDir(d cache.Dir, name string) string { return filepath.Join(d.Cluster(name), "aws") }

// readRecord returns nil when there is none.
func readRecord(path string) (*Cluster, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's record: %w", err)
	}
	var c Cluster
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fault.NewEnvironment(fmt.Errorf("read the cluster's record %s: %w", path, err), "remove the cluster with `meshsim down` and raise it again")
	}
	if c.Name == "" || c.Topology == nil {
		return nil, fault.NewEnvironment(fmt.Errorf("the cluster's record %s says nothing", path), "remove the cluster with `meshsim down` and raise it again")
	}
	return &c, nil
}

func writeRecord(path string, c *Cluster) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(path, append(data, '\n')); err != nil {
		return fmt.Errorf("write the cluster's record: %w", err)
	}
	return nil
}

// writeFile writes for the owner alone, by renaming, so that no reader sees half a file.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

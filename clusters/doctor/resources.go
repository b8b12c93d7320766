package doctor

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/kind"
)

const (
	// memoryForSandbox is a whole rehearsal: cluster, stack, shop, traffic.
	memoryForSandbox = 8 << 30
	// diskForBuild is a bundle in the making: sources, compiled packages, trees, images.
	diskForBuild = 25 << 30
	callTimeout  = 3 * time.Second
)

func (c checker) memory() Finding {
	f := Finding{Name: "memory", State: OK}
	have, err := kind.FreeMemory(filepath.Join(c.root, "proc/meminfo"))
	if err != nil {
		f.State, f.Detail = Warning, "cannot be told: "+err.Error()
		return f
	}
	f.Detail = kind.GiB(have) + " free"
	switch need := kind.NeededMemory(c.Topology); {
	case have < need:
		f.State, f.Mend = Missing, fmt.Sprintf("an empty cluster of this shape takes %s: free memory, or choose a smaller topology such as ci", kind.GiB(need))
	case have < memoryForSandbox:
		f.State, f.Mend = Warning, fmt.Sprintf("a whole rehearsal takes up to %s", kind.GiB(memoryForSandbox))
	}
	return f
}

// disk looks at the cache, where a private engine's data is too.
func (c checker) disk() Finding {
	f := Finding{Name: "disk", State: OK}
	dir := existing(string(c.Cache))
	have, err := c.freeDisk(dir)
	if err != nil {
		f.State, f.Detail = Warning, "cannot be told: "+err.Error()
		return f
	}
	f.Detail = fmt.Sprintf("%s free for %s", kind.GiB(have), c.Cache)
	switch {
	case have < kind.NeededDisk():
		f.State, f.Mend = Missing, fmt.Sprintf("a cluster takes %s: free disk space, or move the cache by MESHSIM_CACHE", kind.GiB(kind.NeededDisk()))
	case have < diskForBuild:
		f.State, f.Mend = Warning, fmt.Sprintf("building a bundle takes up to %s; a loaded or pulled one takes less", kind.GiB(diskForBuild))
	}
	return f
}

// existing is the nearest folder above path that is there.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// lacking lists the programs that are not to be found.
func (c checker) lacking(programs ...string) []string {
	return slices.DeleteFunc(slices.Clone(programs), func(p string) bool {
		_, err := c.lookPath(p)
		return err == nil
	})
}

// build looks whether a bundle could be built here.
func (c checker) build() Finding {
	f := Finding{Name: "building a bundle", State: OK, Detail: "possible"}
	const mend = "take a bundle by `meshsim bundle pull` or `meshsim bundle load`, which need none of it"
	if c.goos != "linux" || c.euid != 0 {
		f.State, f.Detail, f.Mend = Warning, "only root on Debian can", mend
		return f
	}
	lacking := c.lacking("go", "git", "unshare", "chroot")
	if _, err := c.lookPath("debootstrap"); err != nil {
		lacking = append(lacking, c.lacking("apt-get")...) // which brings debootstrap
	}
	if len(lacking) > 0 {
		f.State, f.Detail, f.Mend = Warning, "not here: "+strings.Join(lacking, ", "), mend
	}
	return f
}

// registries calls every host once, all at a time.
func (c checker) registries(ctx context.Context) Finding {
	if len(c.Registries) == 0 {
		return Finding{Name: "registries", State: OK, Detail: "not called: --registries HOST,… calls them; a bundle that is built needs none"}
	}
	silent := make([]string, len(c.Registries))
	var wg sync.WaitGroup
	for i, host := range c.Registries {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			if err := c.call(ctx, "https://"+host+"/v2/"); err != nil {
				silent[i] = host
			}
		})
	}
	wg.Wait()
	silent = slices.DeleteFunc(silent, func(h string) bool { return h == "" })
	f := Finding{Name: "registries", State: OK, Detail: strings.Join(c.Registries, ", ") + " answer"}
	if len(silent) > 0 {
		f.State, f.Detail = Warning, strings.Join(silent, ", ")+" do not answer"
		f.Mend = "build the bundle (`meshsim bundle build`) or carry it here (`meshsim bundle load`)"
	}
	return f
}

// ports looks at each port, leaving out those that the cluster itself holds.
func (c checker) ports() []Finding {
	own := map[string]bool{}
	if cluster, err := kind.Open(c.Cache, c.Cluster); c.Cluster != "" && err == nil {
		own[cluster.HTTP], own[cluster.GRPC] = true, true
	}
	var findings []Finding
	for _, port := range c.Ports {
		if port == 0 {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		f := Finding{Name: "port " + strconv.Itoa(port), State: OK, Detail: "free"}
		switch err := c.portFree(port); {
		case own[address]:
			f.Detail = "held by cluster " + c.Cluster
		case err != nil:
			f.State, f.Detail = Missing, err.Error()
			f.Mend = fmt.Sprintf("end what listens on it (`ss -ltnp` names it), or choose another port than %d", port)
		}
		findings = append(findings, f)
	}
	return findings
}

func freeDisk(path string) (int64, error) { return kind.FreeDisk(path) }

func portFree(port int) error { return kind.PortFree(port) }

// call makes one HEAD request; any answer will do.
func call(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func kernelRelease() string {
	if runtime.GOOS != "linux" {
		return ""
	}
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

const cgroup2Magic = 0x63677270

// isCgroup2 tells whether the folder is a version 2 hierarchy.
func isCgroup2(path string) (bool, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return int64(st.Type) == cgroup2Magic, nil
}

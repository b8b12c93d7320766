package doctor

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// feature is something that nodes ask of the kernel.
type feature struct {
	name    string
	option  string // in the kernel's config, without CONFIG_
	module  string // file name without .ko
	without State  // when the kernel lacks it
	effect  string // what is lost then
}

var features = []feature{
	{"overlayfs", "OVERLAY_FS", "overlay", Missing, "containers have no layered root filesystem"},
	{"bridge", "BRIDGE", "bridge", Missing, "nodes have no network"},
	{"veth", "VETH", "veth", Missing, "nodes and pods have no network"},
	{"nf_tables", "NF_TABLES", "nf_tables", Missing, "neither Services nor the mesh's redirection work"},
	{"conntrack", "NF_CONNTRACK", "nf_conntrack", Missing, "Services do not work"},
	{"netem", "NET_SCH_NETEM", "sch_netem", Warning, "the delay between zones is not emulated, and the record of a run says so"},
}

const kernelMend = "boot a kernel that has it (Debian's and Ubuntu's own do; some cloud kernels keep it in a package linux-modules-extra)"

// kernelFeatures looks in the kernel's own books; nothing is loaded or tried.
func (c checker) kernelFeatures() []Finding {
	if c.goos != "linux" {
		return nil
	}
	config := c.kernelConfig()
	var findings []Finding
	for _, want := range features {
		f := Finding{Name: "kernel " + want.name, State: OK, Detail: "present"}
		switch c.kernelHas(config, want) {
		case no:
			f.State, f.Detail, f.Mend = want.without, "absent: "+want.effect, kernelMend
		case unknown:
			f.State, f.Detail = Warning, "cannot be told: this machine does not show its kernel's config or modules"
		}
		findings = append(findings, f)
	}
	return findings
}

type answer int

const (
	unknown answer = iota
	yes
	no
)

// kernelHas asks what is loaded, then the config, then the folder of modules.
func (c checker) kernelHas(config string, f feature) answer {
	if _, err := os.Stat(filepath.Join(c.root, "sys/module", f.module)); err == nil {
		return yes
	}
	modules, known := c.moduleNames()
	listed := modules[f.module]
	if config != "" {
		switch configValue(config, f.option) {
		case "y":
			return yes
		case "m":
			if listed {
				return yes
			}
			if known {
				return no // built as a module that is not installed
			}
			return unknown
		default:
			return no
		}
	}
	switch {
	case listed:
		return yes
	case known:
		return no
	default:
		return unknown
	}
}

// kernelConfig is the config's text, "" when it is not to be had.
func (c checker) kernelConfig() string {
	if data, err := os.ReadFile(filepath.Join(c.root, "proc/config.gz")); err == nil {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err == nil {
			if text, err := io.ReadAll(io.LimitReader(r, 16<<20)); err == nil {
				return string(text)
			}
		}
	}
	data, _ := os.ReadFile(filepath.Join(c.root, "boot", "config-"+c.kernel))
	return string(data)
}

// configValue of "CONFIG_VETH=m" for VETH is "m"; "" when it is not set.
func configValue(config, option string) string {
	for line := range strings.Lines(config) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && name == "CONFIG_"+option {
			return value
		}
	}
	return ""
}

// moduleNames reads the kernel's lists of modules, built in and to be loaded.
func (c checker) moduleNames() (names map[string]bool, known bool) {
	names = map[string]bool{}
	for _, file := range []string{"modules.builtin", "modules.dep"} {
		data, err := os.ReadFile(filepath.Join(c.root, "lib/modules", c.kernel, file))
		if err != nil || c.kernel == "" {
			continue
		}
		known = true
		for line := range strings.Lines(string(data)) {
			path, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, _ := strings.Cut(filepath.Base(path), ".ko")
			names[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	return names, known
}

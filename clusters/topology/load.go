package topology

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/fault"
)

//go:embed *.yaml
var shipped embed.FS

const mend = "docs/scenarios.md tells every key of a topology"

// Shipped returns the names of the topologies that come with meshsim, sorted.
func Shipped() []string {
	entries, err := shipped.ReadDir(".")
	if err != nil {
		return nil // an embedded folder can always be read
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// Load reads a shipped topology by its name, or a file. The error is a
// fault.Invalid that lists every problem with file and line.
func Load(nameOrPath string) (*Topology, error) {
	if slices.Contains(Shipped(), nameOrPath) {
		file := nameOrPath + ".yaml"
		data, err := shipped.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the shipped topology %s: %w", nameOrPath, err)
		}
		return Parse(file, data)
	}
	data, err := os.ReadFile(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NewInvalid(fmt.Errorf("there is no topology %q: it is neither a shipped one nor a file", nameOrPath),
			"name one of "+strings.Join(Shipped(), ", ")+", or give the path of a topology file")
	}
	if err != nil {
		return nil, fault.NewInvalid(fmt.Errorf("read the topology: %w", err), mend)
	}
	return Parse(nameOrPath, data)
}

// Parse reads a topology; file is its name in errors.
func Parse(file string, data []byte) (*Topology, error) {
	doc, problems := decode(data)
	if doc != nil {
		problems = append(problems, withoutEchoes(problems, check(doc))...)
	}
	if len(problems) > 0 {
		return nil, fault.NewInvalid(problemsError(file, problems), mend)
	}
	s := doc.content.Spec
	t := &Topology{
		Name: doc.content.Metadata.Name, Description: doc.content.Metadata.Description,
		KubernetesVersion: s.KubernetesVersion, Region: s.Region, Zones: s.Zones,
		CrossZoneDelay: time.Duration(s.CrossZoneDelay),
	}
	for _, g := range s.NodeGroups {
		t.NodeGroups = append(t.NodeGroups, NodeGroup(g))
	}
	for _, c := range s.StorageClasses {
		t.StorageClasses = append(t.StorageClasses, StorageClass(c))
	}
	return t, nil
}

// withoutEchoes drops what the check finds in a line that could not be read:
// a value of the wrong type is also missing.
func withoutEchoes(unread, found []problem) []problem {
	return slices.DeleteFunc(found, func(p problem) bool {
		return slices.ContainsFunc(unread, func(u problem) bool { return u.line == p.line })
	})
}

// problem is one thing wrong, at a line counted from 1.
type problem struct {
	line int
	text string
}

func problemsError(file string, problems []problem) error {
	slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = fmt.Sprintf("%s:%d: %s", file, max(p.line, 1), p.text)
	}
	return errors.New(strings.Join(lines, "\n"))
}

package topology

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The file, as written.
type (
	fileContent struct {
		APIVersion string       `yaml:"apiVersion"`
		Kind       string       `yaml:"kind"`
		Metadata   fileMetadata `yaml:"metadata"`
		Spec       fileSpec     `yaml:"spec"`
	}
	fileMetadata struct {
		Name        string `yaml:"name"`
		Description string `yaml:"description"`
	}
	fileSpec struct {
		KubernetesVersion string             `yaml:"kubernetesVersion"`
		Region            string             `yaml:"region"`
		Zones             []string           `yaml:"zones"`
		NodeGroups        []fileNodeGroup    `yaml:"nodeGroups"`
		StorageClasses    []fileStorageClass `yaml:"storageClasses"`
		CrossZoneDelay    fileDuration       `yaml:"crossZoneDelay"`
	}
	fileNodeGroup struct {
		Name         string            `yaml:"name"`
		InstanceType string            `yaml:"instanceType"`
		VCPU         int               `yaml:"vcpu"`
		MemoryGiB    int               `yaml:"memoryGiB"`
		CapacityType string            `yaml:"capacityType"`
		Nodes        map[string]int    `yaml:"nodes"`
		MaxPods      int               `yaml:"maxPods"`
		Labels       map[string]string `yaml:"labels"`
		Taints       []string          `yaml:"taints"`
	}
	fileStorageClass struct {
		Name    string `yaml:"name"`
		Default bool   `yaml:"default"`
	}
	fileDuration time.Duration
)

// UnmarshalYAML reads "0.6ms". A bad one is reported like any wrong type.
func (d *fileDuration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is no duration such as 0.6ms", n.Line, n.Value)}}
	}
	*d = fileDuration(v)
	return nil
}

// document is the content with the tree it came from, which knows the lines.
type document struct {
	content fileContent
	root    *yaml.Node
}

// decode reads one strict document. What could be read comes back also when
// there are problems, so that everything is reported at once; nil when nothing could.
func decode(data []byte) (*document, []problem) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, yamlProblems(err)
	}
	if root.Kind == 0 {
		return nil, []problem{{1, "the file is empty"}}
	}
	doc := &document{root: root.Content[0]}
	if doc.root.Kind != yaml.MappingNode {
		return nil, []problem{{doc.root.Line, "the file is no mapping of keys to values"}}
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var problems []problem
	if err := dec.Decode(&doc.content); err != nil {
		problems = yamlProblems(err)
		if slices.ContainsFunc(problems, func(p problem) bool { return strings.Contains(p.text, "is given twice") }) {
			return nil, problems // nothing of that mapping was read
		}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		problems = append(problems, problem{1, "the file holds more than one document"})
	}
	return doc, problems
}

var (
	lineError    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (.*) not found in type .*$`)
	doubleKey    = regexp.MustCompile(`^mapping key (".*") already defined at line (\d+)$`)
	wrongType    = regexp.MustCompile("^cannot unmarshal (\\S+)(?: `([^`]*)`)? into (.*)$")
)

// yamlProblems puts the parser's errors into words that name no Go type.
func yamlProblems(err error) []problem {
	texts := []string{err.Error()}
	if te, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = te.Errors
	}
	var problems []problem
	for _, text := range texts {
		line := 1
		if m := lineError.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits, by the pattern
			text = m[2]
		}
		problems = append(problems, problem{line, reword(strings.TrimPrefix(text, "yaml: "))})
	}
	return problems
}

func reword(text string) string {
	if m := unknownField.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown key %q", m[1])
	}
	if m := doubleKey.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("key %s is given twice, first in line %s", m[1], m[2])
	}
	if m := wrongType.FindStringSubmatch(text); m != nil {
		got := yamlKind(m[1])
		if m[2] != "" {
			got = fmt.Sprintf("%q", m[2])
		}
		return fmt.Sprintf("%s is not %s", got, goKind(m[3]))
	}
	return text
}

func yamlKind(tag string) string {
	switch tag {
	case "!!seq":
		return "a list"
	case "!!map":
		return "a mapping"
	case "!!null":
		return "nothing"
	default:
		return "this"
	}
}

func goKind(name string) string {
	switch {
	case name == "int":
		return "a whole number"
	case name == "string":
		return "a text"
	case name == "bool":
		return "true or false"
	case strings.HasPrefix(name, "[]"):
		return "a list"
	default:
		return "a mapping of keys to values"
	}
}

// line finds the line of the value at a path of keys (string) and indices
// (int), or of the nearest thing above it that exists.
func (d *document) line(path ...any) int {
	node := d.root
	for _, step := range path {
		next := child(node, step)
		if next == nil {
			break
		}
		node = next
	}
	return node.Line
}

func child(node *yaml.Node, step any) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch step := step.(type) {
	case string:
		if node.Kind != yaml.MappingNode {
			return nil
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1]
			}
		}
	case int:
		if node.Kind == yaml.SequenceNode && step < len(node.Content) {
			return node.Content[step]
		}
	}
	return nil
}

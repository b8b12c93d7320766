package scenarios

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/fault"
)

// OverridesKind is the kind of a file that holds overrides alone.
const OverridesKind = "Overrides"

// LoadOverrides reads a file of overrides. What is wrong with it comes as one
// fault.Invalid around *Problems.
func LoadOverrides(path string) (bundle.Overrides, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return bundle.Overrides{}, fault.NewInvalid(fmt.Errorf("overrides file %s is not there", path), "name a .yaml file of kind "+OverridesKind)
	}
	if err != nil {
		return bundle.Overrides{}, fault.NewInvalid(fmt.Errorf("read overrides: %w", err), "")
	}
	return ParseOverrides(path, raw)
}

// ParseOverrides reads overrides from raw; source names them in problems, and
// paths in them are relative to its folder.
func ParseOverrides(source string, raw []byte) (bundle.Overrides, error) {
	root, problem := parse(raw, "an overrides file")
	if problem != nil {
		return bundle.Overrides{}, invalidOverrides(source, *problem)
	}
	var o bundle.Overrides
	var version, kind string
	d := &decoder{}
	d.mapping(root, "the overrides file", map[string]field{
		"apiVersion": d.oneOf("apiVersion", []string{APIVersion}, &version),
		"kind":       d.oneOf("kind", []string{OverridesKind}, &kind),
		"spec":       func(n *yaml.Node) { d.overrides(n, "spec", source, &o) },
	}, "apiVersion", "kind", "spec")
	if len(d.problems) > 0 {
		return bundle.Overrides{}, invalidOverrides(source, d.sorted()...)
	}
	return o, nil
}

func invalidOverrides(source string, problems ...Problem) error {
	return fault.NewInvalid(&Problems{source, problems}, "docs/linkerd.md shows such a file")
}

// overrides reads images and charts by name.
func (d *decoder) overrides(n *yaml.Node, what, source string, into *bundle.Overrides) {
	entries := func(what string, add func(name, dir string, from bundle.Override) error) field {
		return func(n *yaml.Node) {
			d.texts(n, what, func(key, value *yaml.Node) {
				by := fmt.Sprintf("%s:%d", source, value.Line)
				if err := add(key.Value, filepath.Dir(source), bundle.Override{From: value.Value, By: by}); err != nil {
					d.fail(key, "%v", err)
				}
			})
		}
	}
	d.mapping(n, what, map[string]field{
		"images": entries("images", into.AddImage),
		"charts": entries("charts", into.AddChart),
	})
}

// texts calls read with each key and text of a mapping with keys of any name.
func (d *decoder) texts(n *yaml.Node, what string, read func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "%s should be a mapping, not %s", what, kindOf(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		var text string
		if d.text(what+"."+key.Value, &text)(value); text == "" {
			if value.Value == "" && value.ShortTag() == "!!str" {
				d.fail(value, "%s.%s should not be empty", what, key.Value)
			}
			continue
		}
		read(key, value)
	}
}

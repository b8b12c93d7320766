package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/clusters/progress"
)

// buildChart puts a chart together from the sources in its project's module:
// the release's version goes into Chart.yaml, and the CRDs become a template
// that the value installCRDs turns on.
func buildChart(l LockedChart, src checkout) builder {
	return func(ctx context.Context, w *workshop, _ *component, out string, _ *progress.Task) (string, error) {
		module, err := w.moduleDir(ctx, src.upstream(l.Build.Upstream), l.Build.Module)
		if err != nil {
			return "", err
		}
		return l.Version, assembleChart(filepath.Join(module, "deploy"), l.Name, l.Version, out)
	}
}

func assembleChart(deploy, name, version, out string) error {
	from := filepath.Join(deploy, "charts", name)
	if err := copyTemplates(filepath.Join(from, "templates"), filepath.Join(out, "templates")); err != nil {
		return err
	}
	chart, err := os.ReadFile(filepath.Join(from, "Chart.template.yaml"))
	if err != nil {
		return err
	}
	filled, err := fillChart(chart, version)
	if err != nil {
		return fmt.Errorf("fill in Chart.yaml: %w", err)
	}
	values, err := os.ReadFile(filepath.Join(from, "values.yaml"))
	if err != nil {
		return err
	}
	crds, err := joinCRDs(filepath.Join(deploy, "crds"))
	if err != nil {
		return err
	}
	for rel, text := range map[string][]byte{"Chart.yaml": filled, "values.yaml": values, "templates/crds.yaml": crds} {
		if err := writeBelow(out, rel, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyTemplates(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return fmt.Errorf("templates has a folder, %s", e.Name())
		}
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := writeBelow(to, e.Name(), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fillChart puts the version where the project's release tool would.
func fillChart(template []byte, version string) ([]byte, error) {
	var chart map[string]any
	if err := yaml.Unmarshal(template, &chart); err != nil {
		return nil, err
	}
	if chart["name"] == nil {
		return nil, errors.New("it names no chart")
	}
	chart["version"], chart["appVersion"] = version, version
	delete(chart, "annotations") // about signatures and listings of the published chart
	return yaml.Marshal(chart)
}

func joinCRDs(dir string) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no CRDs in %s", dir)
	}
	sort.Strings(names)
	var docs []string
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			return nil, err
		}
		docs = append(docs, strings.TrimRight(string(text), "\n")+"\n")
	}
	return []byte("{{- if .Values.installCRDs }}\n" + strings.Join(docs, "---\n") + "{{- end }}\n"), nil
}

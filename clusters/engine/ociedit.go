package engine

import (
	"encoding/json"
	"fmt"
	"slices"
)

// holdBack is what must not be asked of the kernel here.
type holdBack struct {
	capabilities []string // CAP_… names
	oomScoreAdj  int      // the lowest value that may be set without CAP_SYS_RESOURCE
}

// resources tells whether the process may set limits and lower its OOM score.
func (h holdBack) resources() bool { return !slices.Contains(h.capabilities, "CAP_SYS_RESOURCE") }

// editSpec takes what h names out of an OCI bundle's config.json. Everything
// else keeps its value, numbers of any size included.
func editSpec(spec []byte, h holdBack) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(spec, &doc); err != nil {
		return nil, fmt.Errorf("parse the container's config: %w", err)
	}
	process, ok := doc["process"]
	if !ok || isNull(process) {
		return spec, nil
	}
	edited, err := editProcess(process, h)
	if err != nil {
		return nil, err
	}
	doc["process"] = edited
	return json.Marshal(doc)
}

// editProcess does the same for a process object, as `exec --process` takes it.
func editProcess(process []byte, h holdBack) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(process, &doc); err != nil {
		return nil, fmt.Errorf("parse the process: %w", err)
	}
	if raw, ok := doc["capabilities"]; ok && !isNull(raw) {
		edited, err := editCapabilities(raw, h.capabilities)
		if err != nil {
			return nil, err
		}
		doc["capabilities"] = edited
	}
	if !h.resources() {
		delete(doc, "rlimits")
		if raw, ok := doc["oomScoreAdj"]; ok && !isNull(raw) {
			var score int
			if err := json.Unmarshal(raw, &score); err != nil {
				return nil, fmt.Errorf("parse oomScoreAdj: %w", err)
			}
			if score < h.oomScoreAdj {
				delete(doc, "oomScoreAdj")
			}
		}
	}
	return json.Marshal(doc)
}

// editCapabilities removes the names from each set (bounding, effective, …).
func editCapabilities(raw []byte, remove []string) ([]byte, error) {
	var sets map[string]json.RawMessage
	if err := json.Unmarshal(raw, &sets); err != nil {
		return nil, fmt.Errorf("parse capabilities: %w", err)
	}
	for name, rawSet := range sets {
		if isNull(rawSet) {
			continue
		}
		var set []string
		if err := json.Unmarshal(rawSet, &set); err != nil {
			return nil, fmt.Errorf("parse capabilities.%s: %w", name, err)
		}
		set = slices.DeleteFunc(set, func(c string) bool { return slices.Contains(remove, c) })
		edited, err := json.Marshal(set)
		if err != nil {
			return nil, err
		}
		sets[name] = edited
	}
	return json.Marshal(sets)
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

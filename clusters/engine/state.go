package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
)

// state is what a later process must know to find and to stop the private engine.
type state struct {
	Pool       netip.Prefix `json:"pool"`
	Containerd int          `json:"containerdPID"`
	Dockerd    int          `json:"dockerdPID"`
	Version    string       `json:"version"` // "" until it has been found to work
	Wrapped    bool         `json:"wrapped"`
	Missing    []string     `json:"missing"`
}

// readState returns nil when there is no state.
func readState(path string) (*state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the private engine's state: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("read the private engine's state: %s: %w", path, err)
	}
	return &s, nil
}

func writeState(path string, s *state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(path, append(data, '\n'))
}

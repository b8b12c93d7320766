//go:build !linux

package engine

import (
	"errors"
	"net/netip"
)

func (n netlinkNetwork) taken() ([]netip.Prefix, error) { return nil, errors.ErrUnsupported }

func (n netlinkNetwork) addBridge(string, netip.Prefix) error { return errors.ErrUnsupported }

func (n netlinkNetwork) removeBridges(string, netip.Prefix) error { return nil }

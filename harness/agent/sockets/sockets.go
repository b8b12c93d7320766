// Package sockets lists the TCP sockets of a pod, as its kernel knows them:
// also those of the other containers, which share the network.
package sockets

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Socket is one TCP socket.
type Socket struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	State  string         `json:"state"` // listen, established or other
	UID    int            `json:"uid"`   // of its owner
}

// List reads net/tcp and net/tcp6 below the root of a proc file system.
func List(proc fs.FS) ([]Socket, error) {
	all := []Socket{}
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		f, err := proc.Open(name)
		if errors.Is(err, fs.ErrNotExist) && name == "net/tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		some, err := parse(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("list sockets: %s: %w", name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// parse reads the kernel's table: a line of headings, then a socket a line,
// whose columns are number, local and remote address, state, …, and at the
// eighth place the owner.
func parse(r io.Reader) ([]Socket, error) {
	var all []Socket
	lines := bufio.NewScanner(r)
	lines.Scan()
	for lines.Scan() {
		columns := strings.Fields(lines.Text())
		if len(columns) < 8 {
			return nil, fmt.Errorf("line %q has %d columns", lines.Text(), len(columns))
		}
		local, err := address(columns[1])
		if err != nil {
			return nil, err
		}
		remote, err := address(columns[2])
		if err != nil {
			return nil, err
		}
		uid, err := strconv.Atoi(columns[7])
		if err != nil {
			return nil, fmt.Errorf("owner %q is no number", columns[7])
		}
		all = append(all, Socket{Local: local, Remote: remote, State: state(columns[3]), UID: uid})
	}
	return all, lines.Err()
}

func state(code string) string {
	switch code {
	case "01":
		return "established"
	case "0A":
		return "listen"
	}
	return "other"
}

// address reads ADDRESS:PORT in hexadecimal. The address stands there in words
// of four bytes, each in a little-endian machine's order.
func address(text string) (netip.AddrPort, error) {
	ip, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	if !ok || err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q cannot be read", text)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q cannot be read", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}

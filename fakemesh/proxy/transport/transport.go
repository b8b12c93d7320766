// Package transport is the header in front of opaque bytes between two
// proxies: which port of the pod they are meant for.
package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const magic = "l5dp"

// WriteHeader writes the header for port.
func WriteHeader(w io.Writer, port uint16) error {
	if _, err := w.Write(binary.BigEndian.AppendUint16([]byte(magic), port)); err != nil {
		return fmt.Errorf("write the transport header: %w", err)
	}
	return nil
}

// ReadHeader reads the port, and not a byte more than the header.
func ReadHeader(r io.Reader) (uint16, error) {
	var b [len(magic) + 2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read the transport header: %w", err)
	}
	if string(b[:len(magic)]) != magic {
		return 0, errors.New("this is no transport header")
	}
	port := binary.BigEndian.Uint16(b[len(magic):])
	if port == 0 {
		return 0, errors.New("the transport header names no port")
	}
	return port, nil
}

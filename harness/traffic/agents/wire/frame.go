package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Kinds of frames.
const (
	Record = 'R' // one settled request, a results.Request as JSON; times from the schedule's zero
	Beat   = 'B' // nothing happened for a while; no payload
	End    = 'E' // the last: a Summary as JSON
)

// Frame is one message of an agent's stream. The stream is numbered from 0 with
// no number left out, so that a gap in it is seen.
type Frame struct {
	Seq     uint64
	Kind    byte
	Payload []byte // valid until the next one is read
}

// A frame on the wire: the payload's length (4 bytes), a checksum of all that
// follows it (4), the frame's number (8), its kind (1), the payload. Numbers
// are big-endian.
const (
	header     = 4 + 4 + 8 + 1
	maxPayload = 64 << 10 // far above any record
)

// ErrFrame is when a stream is not one of frames, or a frame is missing in it.
// Reading on is of no use then.
var ErrFrame = errors.New("the stream of results is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendFrame adds a frame to b.
func AppendFrame(b []byte, f Frame) ([]byte, error) {
	if len(f.Payload) > maxPayload {
		return b, fmt.Errorf("a frame of %d bytes is too long", len(f.Payload))
	}
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = append(b, f.Kind)
	b = append(b, f.Payload...)
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b, nil
}

// Reader reads the frames of one stream, over as many connections as it takes.
type Reader struct {
	next   uint64
	offset int64
	buf    []byte
}

// Offset is how many bytes of the stream have been read as whole frames: where
// to go on with another connection.
func (r *Reader) Offset() int64 { return r.offset }

// Next reads one frame from a connection that begins, or goes on, at Offset.
// io.EOF is an end between frames, io.ErrUnexpectedEOF one within a frame.
func (r *Reader) Next(in io.Reader) (Frame, error) {
	var head [header]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	f := Frame{Seq: binary.BigEndian.Uint64(head[8:]), Kind: head[16]}
	switch {
	case size > maxPayload:
		return Frame{}, fmt.Errorf("%w: a frame of %d bytes", ErrFrame, size)
	case f.Seq != r.next:
		return Frame{}, fmt.Errorf("%w: frame %d comes in the place of %d", ErrFrame, f.Seq, r.next)
	case f.Kind != Record && f.Kind != Beat && f.Kind != End:
		return Frame{}, fmt.Errorf("%w: frame %d is of the unknown kind %q", ErrFrame, f.Seq, f.Kind)
	}
	if uint32(cap(r.buf)) < size {
		r.buf = make([]byte, size)
	}
	f.Payload = r.buf[:size]
	if _, err := io.ReadFull(in, f.Payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, f.Payload)
	if sum != binary.BigEndian.Uint32(head[4:]) {
		return Frame{}, fmt.Errorf("%w: frame %d has another checksum than it says", ErrFrame, f.Seq)
	}
	r.next++
	r.offset += int64(header) + int64(size)
	return f, nil
}

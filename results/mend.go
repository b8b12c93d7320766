package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// mend returns a JSON object as far as it goes: one that was cut off is ended
// after its last whole value. What is written here ends in a line's end, so
// that the loss of any byte is noticed. What is wrong in its middle stays so.
func mend(raw []byte) (whole []byte, cut bool) {
	if json.Valid(raw) {
		return raw, !bytes.HasSuffix(raw, []byte("\n"))
	}
	good, open, ended := scanWhole(raw)
	if !ended {
		return raw, false
	}
	if good == 0 {
		return []byte("{}"), true
	}
	whole = bytes.TrimRight(bytes.Clone(raw[:good]), " \t\r\n")
	for i := len(open) - 1; i >= 0; i-- {
		whole = append(whole, open[i])
	}
	return whole, true
}

// scanWhole walks over raw until it ends or is wrong. It returns where the last
// whole value of an object or a list ended, and the brackets to be closed
// there; ended tells that raw is right as far as it goes.
func scanWhole(raw []byte) (good int, open []byte, ended bool) {
	in := json.NewDecoder(bytes.NewReader(raw))
	in.UseNumber()
	var stack []byte
	var named []bool // of an object: its key has been read
	for {
		token, err := in.Token()
		at := int(in.InputOffset())
		if err != nil {
			return good, open, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
		if good > 0 && len(stack) == 0 {
			return 0, nil, false // more than one object
		}
		value := true
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{', '[':
				closing := byte('}')
				if t == '[' {
					closing = ']'
				}
				stack, named = append(stack, closing), append(named, false)
			default:
				stack, named = stack[:len(stack)-1], named[:len(named)-1]
			}
		case json.Number:
			value = at < len(raw) // its digits may go on
		case string:
			if top := len(stack) - 1; top >= 0 && stack[top] == '}' && !named[top] {
				named[top] = true
				continue // a key
			}
		}
		if !value {
			continue
		}
		if token != json.Delim('{') && token != json.Delim('[') && len(named) > 0 {
			named[len(named)-1] = false
		}
		good, open = at, bytes.Clone(stack)
	}
}

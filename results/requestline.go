package results

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// appendRequest appends a request's line: the same bytes as encoding/json's, without
// its reflection, as a sender writes thousands a second.
func appendRequest(to []byte, r *Request) []byte {
	to = strconv.AppendUint(append(to, `{"seq":`...), r.Seq, 10)
	to = strconv.AppendInt(append(to, `,"scheduled":`...), r.Scheduled, 10)
	to = strconv.AppendInt(append(to, `,"sent":`...), r.Sent, 10)
	to = strconv.AppendInt(append(to, `,"done":`...), r.Done, 10)
	to = appendText(append(to, `,"phase":`...), r.Phase)
	to = appendText(append(to, `,"route":`...), r.Route)
	to = appendText(append(to, `,"proto":`...), r.Proto)
	to = strconv.AppendInt(append(to, `,"status":`...), int64(r.Status), 10)
	to = appendText(append(to, `,"outcome":`...), r.Outcome)
	for _, f := range [...]struct{ key, value string }{
		{`,"class":`, r.Class}, {`,"hop":`, r.Hop}, {`,"pod":`, r.Pod}, {`,"hops":`, r.Hops},
		{`,"error":`, r.Error}, {`,"orderId":`, r.OrderID}, {`,"agent":`, r.Agent},
	} {
		if f.value != "" {
			to = appendText(append(to, f.key...), f.value)
		}
	}
	return append(to, "}\n"...)
}

// appendText appends a string of JSON. Names are plain text, and hops are but for
// their marks; anything else is left to encoding/json.
func appendText(to []byte, s string) []byte {
	begin, plain := len(to), 0
	to = append(to, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '>':
			to = append(append(to, s[plain:i]...), `\u003e`...)
			plain = i + 1
		case c < ' ', c == '"', c == '\\', c == '<', c == '&', c >= utf8.RuneSelf:
			raw, _ := json.Marshal(s) // never fails for a string
			return append(to[:begin], raw...)
		}
	}
	return append(append(to, s[plain:]...), '"')
}

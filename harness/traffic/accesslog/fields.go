package accesslog

import (
	"bytes"
	"time"
)

// nextField cuts the next field off a line of fields with single blanks between
// them. A field in quotes comes without them; a quote within is behind a
// backslash, or has no blank behind it.
func nextField(rest []byte) (field, after []byte, reason Reason) {
	if len(rest) == 0 {
		return nil, nil, Fields
	}
	if rest[0] != '"' {
		end := bytes.IndexByte(rest, ' ')
		if end < 0 {
			return rest, nil, OK
		}
		return rest[:end], rest[end+1:], OK
	}
	for end := 1; end < len(rest); end++ {
		next := bytes.IndexByte(rest[end:], '"')
		if next < 0 {
			break
		}
		end += next
		if escaped(rest[:end]) || end+1 < len(rest) && rest[end+1] != ' ' {
			continue
		}
		return rest[1:end], rest[min(end+2, len(rest)):], OK
	}
	return nil, nil, Quote
}

// escaped tells whether what follows is behind a backslash that counts.
func escaped(before []byte) bool {
	n := 0
	for len(before) > n && before[len(before)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// skipFields cuts n fields off.
func skipFields(rest []byte, n int) ([]byte, Reason) {
	for range n {
		var reason Reason
		if _, rest, reason = nextField(rest); reason != OK {
			return nil, reason
		}
	}
	return rest, OK
}

// readRequest reads a request line: a method, a path or URL, and a protocol
// that some clients leave out.
func readRequest(line []byte, l *Line) Reason {
	method, url, ok := bytes.Cut(line, []byte{' '})
	if !ok || !isMethod(method) {
		return Request
	}
	if blank := bytes.LastIndexByte(url, ' '); blank >= 0 {
		url = url[:blank]
	}
	l.Method = method
	return readPath(url, l)
}

// isMethod tells whether a word may be a method: capitals, a few of them.
func isMethod(word []byte) bool {
	for _, c := range word {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(word) > 0 && len(word) <= 20
}

// readPath takes the path out of a URL.
func readPath(url []byte, l *Line) Reason {
	if len(url) == 0 {
		return Path
	}
	if url[0] != '/' {
		scheme := bytes.Index(url, []byte("://"))
		if scheme < 1 || scheme > 10 {
			return Path
		}
		url = url[scheme+3:]
		slash := bytes.IndexAny(url, "/?#")
		if slash < 0 || url[slash] != '/' {
			l.Path = root
			return OK
		}
		url = url[slash:]
	}
	if query := bytes.IndexByte(url, '?'); query >= 0 {
		url = url[:query]
	}
	if fragment := bytes.IndexByte(url, '#'); fragment >= 0 {
		url = url[:fragment]
	}
	l.Path = url
	return OK
}

var root = []byte("/")

// class reads a status as its class.
func class(status []byte) uint8 {
	if len(status) != 3 || status[0] < '1' || status[0] > '5' {
		return 0
	}
	return status[0] - '0'
}

// The years that a line may be of, in microseconds since 1970.
var (
	earliest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	latest   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

func inRange(micros int64) Reason {
	if micros < earliest || micros >= latest {
		return Range
	}
	return OK
}

// readISO reads a time such as 2024-06-11T07:00:00.123456Z.
func readISO(text []byte) (micros int64, coarse bool, reason Reason) {
	// the shortest and the longest that there are; anything else costs an error
	if len(text) < len("2006-01-02T15:04:05Z") || len(text) > len("2006-01-02T15:04:05.999999999+07:00") || text[10] != 'T' {
		return 0, false, Time
	}
	var at time.Time
	if at.UnmarshalText(text) != nil {
		return 0, false, Time
	}
	micros = at.UnixMicro()
	return micros, text[19] != '.', inRange(micros)
}

// readCLF reads a time such as 10/Oct/2000:13:55:36 -0700, which is what the
// common log format has.
func readCLF(text []byte) (micros int64, reason Reason) {
	const form = "02/Jan/2006:15:04:05 -0700"
	if len(text) != len(form) || text[2] != '/' || text[6] != '/' || text[11] != ':' || text[14] != ':' || text[17] != ':' || text[20] != ' ' {
		return 0, Time
	}
	day, month, year := digits(text[0:2]), monthOf(text[3:6]), digits(text[7:11])
	hour, minute, second := digits(text[12:14]), digits(text[15:17]), digits(text[18:20])
	east, north := digits(text[22:24]), digits(text[24:26])
	if day < 1 || month == 0 || year < 0 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60 || east < 0 || east > 23 || north < 0 || north > 59 {
		return 0, Time
	}
	offset := time.Duration(east)*time.Hour + time.Duration(north)*time.Minute
	switch text[21] {
	case '+':
	case '-':
		offset = -offset
	default:
		return 0, Time
	}
	at := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if second < 60 && at.Day() != day { // a 31st of a shorter month
		return 0, Time
	}
	micros = at.Add(-offset).UnixMicro()
	return micros, inRange(micros)
}

// digits reads a number without sign, -1 when there is another character.
func digits(text []byte) int {
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func monthOf(text []byte) time.Month {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	for m := range 12 {
		if string(text) == names[3*m:3*m+3] {
			return time.Month(m + 1)
		}
	}
	return 0
}

// decimalMicros reads seconds such as 0.017 as microseconds; what is below 0 or
// no number, as load balancers have it for what did not happen, is 0.
func decimalMicros(text []byte) int64 {
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	if len(whole) > 9 || len(fraction) > 9 {
		return 0
	}
	seconds, part := digits(whole), digits(fraction)
	if len(whole) == 0 || seconds < 0 || part < 0 {
		return 0
	}
	micros := int64(part)
	for n := len(fraction); n < 6; n++ {
		micros *= 10
	}
	for n := len(fraction); n > 6; n-- {
		micros /= 10
	}
	return int64(seconds)*1_000_000 + micros
}

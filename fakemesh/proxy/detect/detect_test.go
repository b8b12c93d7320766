package detect

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProtocolsAreKnownByTheirFirstBytes(t *testing.T) {
	hello := "\x16\x03\x01\x00\xa5"
	for name, tc := range map[string]struct {
		in      string
		want    Protocol
		certain bool
	}{
		"nothing yet":                                 {"", Opaque, false},
		"the beginning of a method":                   {"GE", Opaque, false},
		"a method without a target":                   {"GET ", Opaque, false},
		"a request line that is not whole":            {"GET /a/long/pa", Opaque, false},
		"a request line up to the version":            {"GET / HTTP/1", Opaque, false},
		"HTTP/1.1":                                    {"GET / HTTP/1.1\r\n", HTTP1, true},
		"HTTP/1.0":                                    {"POST /x?y=z HTTP/1.0\r\n", HTTP1, true},
		"HTTP/1.1 with a method of one's own":         {"M-SEARCH * HTTP/1.1\r\n", HTTP1, true},
		"HTTP/2's preface":                            {preface, HTTP2, true},
		"HTTP/2's preface and a frame":                {preface + "\x00\x00", HTTP2, true},
		"half of the preface":                         {preface[:10], HTTP2, false},
		"HTTP/3 in text":                              {"GET / HTTP/3\r\n", Opaque, true},
		"a tunnel":                                    {"CONNECT db:5432 HTTP/1.1\r\n", Opaque, true},
		"TLS 1.0's record":                            {hello, TLS, true},
		"one byte of TLS":                             {"\x16", Opaque, false},
		"something that begins like TLS":              {"\x16\x09\x01", Opaque, true},
		"PostgreSQL's first message":                  {"\x00\x00\x00\x08\x04\xd2\x16/", Opaque, true},
		"a redis command":                             {"*1\r\n$4\r\nPING\r\n", Opaque, true},
		"a line of SMTP":                              {"EHLO shop\r\n", Opaque, true},
		"a word and a line's end":                     {"STATUS\r\n", Opaque, true},
		"a method that is too long":                   {strings.Repeat("A", 30), Opaque, true},
		"a blank at first":                            {" GET / HTTP/1.1\r\n", Opaque, true},
		"binary data after a method":                  {"GET \x00\x01", Opaque, true},
		"an endless target":                           {"GET /" + strings.Repeat("a", maxLine), Opaque, true},
		"lower case, as some clients do":              {"get / HTTP/1.1\r\n", HTTP1, true},
		"a version that ends otherwise than it began": {"GET / HTTPS", Opaque, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, certain := Classify([]byte(tc.in))
			require.Equal(t, tc.certain, certain)
			if tc.certain {
				require.Equal(t, tc.want, p)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", preface, "\x16\x03\x01", "EHLO x\r\n", "\x00\x00\x00\x08"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, certain := Classify(b)
		if !certain {
			if len(b) > 2*maxLine {
				t.Fatalf("no answer after %d bytes", len(b))
			}
			return
		}
		// More bytes never change an answer that was certain.
		again, still := Classify(append(bytes.Clone(b), "more"...))
		if !still || again != first {
			t.Fatalf("%v became %v", first, again)
		}
	})
}

// slowly gives one byte at a time.
type slowly struct {
	net.Conn
	r io.Reader
}

func (s slowly) Read(p []byte) (int, error)    { return s.r.Read(p) }
func (slowly) SetReadDeadline(time.Time) error { return nil }

func TestNothingIsLostHoweverTheBytesArrive(t *testing.T) {
	text := "POST /orders HTTP/1.1\r\nHost: x\r\n\r\nbody"
	c := NewConn(slowly{r: iotest.OneByteReader(strings.NewReader(text))})
	p, timedOut, err := c.Detect(time.Second)
	require.NoError(t, err)
	require.False(t, timedOut)
	require.Equal(t, HTTP1, p)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func TestAPeerThatSaysLittleAndEndsIsOpaque(t *testing.T) {
	c := NewConn(slowly{r: strings.NewReader("GE")})
	p, timedOut, err := c.Detect(time.Second)
	require.NoError(t, err)
	require.False(t, timedOut)
	require.Equal(t, Opaque, p)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "GE", string(got))
}

func TestAPeerThatEndsAtOnceIsAnError(t *testing.T) {
	c := NewConn(slowly{r: strings.NewReader("")})
	_, _, err := c.Detect(time.Second)
	require.ErrorIs(t, err, io.EOF)
}

func TestASilentPeerIsOpaqueAfterTheTimeout(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c := NewConn(a)
	p, timedOut, err := c.Detect(20 * time.Millisecond)
	require.NoError(t, err)
	require.True(t, timedOut)
	require.Equal(t, Opaque, p)
	go func() { _, _ = b.Write([]byte("late")) }()
	buf := make([]byte, 4)
	_, err = io.ReadFull(c, buf)
	require.NoError(t, err, "the deadline is gone")
	require.Equal(t, "late", string(buf))
}

func TestWhatIsUnreadComesFirst(t *testing.T) {
	c := NewConn(slowly{r: strings.NewReader("cd")})
	c.Unread([]byte("b"))
	c.Unread([]byte("a"))
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "abcd", string(got))
}

package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want Generation
		err  error
	}{
		{"v2 handshake", "\x00\x00\x00\x02\x01", V2, nil},
		{"v1 object", "\x00\x00\x00\xe1{", V1, nil},
		{"v2 event without handshake", "\x00\x00\x00\x02\x15", 0, ErrGeneration},
		{"v1 with a leading blank", "\x00\x00\x00\xe1 ", 0, ErrGeneration},
		{"HTTP", "GET /", 0, ErrGeneration},
	} {
		if g, err := Detect([]byte(c.in)); g != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: Detect(%q) = %v, %v; want %v, %v", c.name, c.in, g, err, c.want, c.err)
		}
	}
}

// stream is three v2 messages, the second larger than every buffer.
func stream() (b []byte, payloads []string) {
	payloads = []string{"{}", strings.Repeat("x", 3*steadyBuffer), ""}
	b = AppendMessage(b, V2, HandshakeRequest, []byte(payloads[0]))
	b = AppendMessage(b, V2, WebSocketFrame, []byte(payloads[1]))
	return AppendMessage(b, V2, Ping, []byte(payloads[2])), payloads
}

func TestReader(t *testing.T) {
	b, want := stream()
	for name, r := range map[string]io.Reader{
		"at once":     bytes.NewReader(b),
		"byte a read": iotest.OneByteReader(bytes.NewReader(b)),
		"halves":      iotest.HalfReader(bytes.NewReader(b)),
	} {
		rd := NewReader(r, 0)
		for i, w := range want {
			m, err := rd.Next()
			if err != nil || string(m.Payload) != w {
				t.Fatalf("%s: message %d: %d bytes, %v; want %d bytes", name, i, len(m.Payload), err, len(w))
			}
		}
		if _, err := rd.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: end: %v, want EOF", name, err)
		}
		if len(rd.buf) > steadyBuffer {
			t.Errorf("%s: %d bytes kept after a large message", name, len(rd.buf))
		}
	}
}

func TestReaderCut(t *testing.T) {
	b := AppendMessage(nil, V2, HandshakeRequest, []byte("{}"))
	b = AppendMessage(b, V2, Ping, []byte(`{"sequence":7}`))
	for i := range b {
		rd := NewReader(bytes.NewReader(b[:i]), 0)
		var err error
		for err == nil {
			_, err = rd.Next()
		}
		want := io.ErrUnexpectedEOF
		if i == 0 || i == 7 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("cut at %d: %v, want %v", i, err, want)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	shake := string(AppendMessage(nil, V2, HandshakeRequest, []byte("{}")))
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"v2 length zero", shake + "\x00\x00\x00\x00\x15", ErrEmpty},
		{"v2 above 16 MiB", shake + "\x01\x00\x00\x01\x15", ErrTooLarge},
		{"v1 above 10 MiB", "\x00\xa0\x00\x01{", ErrTooLarge},
		{"v1 length zero", "\x00\x00\x00\x00{", ErrEmpty},
		{"neither", "\x00\x00\x00\x05x", ErrGeneration},
		{"another protocol", "SSH-2.0-x", ErrTooLarge},
		{"length zero and no more", "\x00\x00\x00\x00", ErrEmpty},
		{"a length above both limits and no more", "\x01\x00\x00\x01", ErrTooLarge},
		{"the first byte of such a length", "\x02", ErrTooLarge},
	} {
		rd := NewReader(strings.NewReader(c.in), 0)
		var err error
		for err == nil {
			_, err = rd.Next()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if len(rd.buf) > initialBuffer {
			t.Errorf("%s: buffer grew to %d for a promised length", c.name, len(rd.buf))
		}
	}
}

func TestReaderLargest(t *testing.T) {
	body := append([]byte{byte(HandshakeRequest)}, make([]byte, MaxV2-1)...)
	b := append([]byte{1, 0, 0, 0}, body...)
	m, err := NewReader(bytes.NewReader(b), 0).Next()
	if err != nil || len(m.Payload) != MaxV2-1 {
		t.Fatalf("%d bytes, %v; want %d", len(m.Payload), err, MaxV2-1)
	}
}

// FuzzWire reads arbitrary bytes: what is read must be in the input, and cutting
// the input into reads changes nothing.
func FuzzWire(f *testing.F) {
	b, _ := stream()
	f.Add(b[:200])
	f.Add(AppendMessage(nil, V1, 0, []byte(`{"version":1}`)))
	f.Add([]byte("\x00\x00\x00\x00\x01"))
	f.Add([]byte("\xff\xff\xff\xff{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(r io.Reader) (all []byte, g Generation, err error) {
			rd := NewReader(r, 0)
			for {
				m, err := rd.Next()
				if err != nil {
					return all, rd.Generation(), err
				}
				all = AppendMessage(all, rd.Generation(), m.Type, m.Payload)
			}
		}
		whole, g, err := read(bytes.NewReader(b))
		if !bytes.HasPrefix(b, whole) {
			t.Fatalf("read %x, which is no prefix of %x", whole, b)
		}
		single, g1, err1 := read(iotest.OneByteReader(bytes.NewReader(b)))
		if !bytes.Equal(whole, single) || g != g1 || !errors.Is(err, err1) {
			t.Fatalf("byte by byte: %x %v %v, at once %x %v %v", single, g1, err1, whole, g, err)
		}
	})
}

package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// clientFrame encodes a masked frame.
func clientFrame(fin bool, op byte, payload []byte, key uint32) []byte {
	b := appendFrameHeader(nil, op, len(payload))
	if !fin {
		b[0] &^= 0x80
	}
	b[1] |= 0x80
	b = binary.LittleEndian.AppendUint32(b, key)
	at := len(b)
	b = append(b, payload...)
	plainUnmask(b[at:], key)
	return b
}

// plainUnmask is unmask as the standard says it.
func plainUnmask(b []byte, key uint32) {
	for i := range b {
		b[i] ^= byte(key >> (8 * (i % 4)))
	}
}

func TestUnmask(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 80 {
		for gap := range 16 {
			key := r.Uint32()
			src := make([]byte, gap+n)
			for i := range src {
				src[i] = byte(r.Uint32())
			}
			want := bytes.Clone(src[gap:])
			plainUnmask(want, key)
			cut := 0
			if n > 0 {
				cut = r.IntN(n)
			}
			// In two pieces, and onto memory that begins before it.
			next := unmask(src, src[gap:gap+cut], key)
			unmask(src[cut:], src[gap+cut:], next)
			if !bytes.Equal(src[:n], want) {
				t.Fatalf("%d bytes, gap %d, cut %d: got %x, want %x", n, gap, cut, src[:n], want)
			}
		}
	}
}

// taken collects control frames.
type taken struct {
	frames []string
}

func (k *taken) control(op byte, payload []byte) error {
	k.frames = append(k.frames, string(op)+string(payload))
	if op == opClose {
		return errStop
	}
	return nil
}

// decodeAll gives a stream to decode in pieces, holding what it leaves, as
// wsConn does. Of what was decoded, keep bytes are held each time.
func decodeAll(pieces [][]byte, keep int) (payload []byte, ctl taken, err error) {
	var f frames
	var held []byte
	decoded := 0
	for _, p := range pieces {
		b := append(bytes.Clone(held), p...)
		if len(b) == 0 {
			continue
		}
		at, to, end, e := f.decode(b, decoded, &ctl)
		if e != nil {
			return append(payload, b[at:to]...), ctl, e
		}
		rest := min(keep, to-at)
		payload = append(payload, b[at:to-rest]...)
		held, decoded = b[to-rest:end], rest
	}
	return append(payload, held[:decoded]...), ctl, nil
}

// pieces cuts b into runs of n bytes.
func pieces(b []byte, n int) [][]byte {
	var list [][]byte
	for len(b) > n {
		list, b = append(list, b[:n]), b[n:]
	}
	return append(list, b)
}

func TestFramesCutAtEveryByte(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 20)
	stream := bytes.Join([][]byte{
		clientFrame(true, opBinary, []byte("one "), 0x01020304),
		clientFrame(false, opBinary, []byte("t"), 0xDEADBEEF),
		clientFrame(true, opPing, []byte("ping"), 7),
		clientFrame(false, opContinuation, nil, 1),
		clientFrame(false, opContinuation, []byte("w"), 0),
		clientFrame(true, opPong, nil, 3),
		clientFrame(true, opContinuation, []byte("o "), 0xFFFFFFFF),
		clientFrame(true, opBinary, nil, 9),
		clientFrame(true, opBinary, long, 0xA1B2C3D4),
		clientFrame(true, opBinary, bytes.Repeat([]byte("x"), 70_000)[:300], 5),
	}, nil)
	want := "one two " + string(long) + string(bytes.Repeat([]byte("x"), 300))
	check := func(name string, list [][]byte, keep int) {
		t.Helper()
		got, ctl, err := decodeAll(list, keep)
		if err != nil || string(got) != want {
			t.Errorf("%s, keeping %d: got %q, %v; want %q", name, keep, got, err, want)
		}
		if len(ctl.frames) != 2 || ctl.frames[0] != string(opPing)+"ping" || ctl.frames[1] != string(opPong) {
			t.Errorf("%s: control frames %q", name, ctl.frames)
		}
	}
	for _, keep := range []int{0, 1, 5, 100} {
		check("whole", [][]byte{stream}, keep)
		check("byte by byte", pieces(stream, 1), keep)
		for cut := range stream {
			check("cut", [][]byte{stream[:cut], stream[cut:]}, keep)
		}
	}
}

func TestFrameErrors(t *testing.T) {
	length := func(b0, b1 byte, rest ...byte) []byte { return append([]byte{b0, b1}, rest...) }
	for _, c := range []struct {
		name  string
		bytes []byte
		want  *wsError
	}{
		{"text", clientFrame(true, opText, []byte("a"), 1), errText},
		{"RSV1: compressed", length(0xC2, 0x81, 0, 0, 0, 0, 1), errReservedBits},
		{"RSV2", length(0xA2, 0x81), errReservedBits},
		{"RSV3", length(0x92, 0x81), errReservedBits},
		{"opcode 3", length(0x83, 0x80), errOpcode},
		{"opcode 7", length(0x87, 0x80), errOpcode},
		{"opcode 11", length(0x8B, 0x80), errOpcode},
		{"opcode 15", length(0x8F, 0x80), errOpcode},
		{"no mask", length(0x82, 0x01, 'a'), errNotMasked},
		{"long length for 125 bytes", length(0x82, 0xFE, 0, 125), errLength},
		{"long length for 65535 bytes", length(0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF), errLength},
		{"length beyond 2^63", length(0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0), errLength},
		{"ping of 126 bytes", length(0x89, 0xFE, 0, 126), errControlLong},
		{"ping in pieces", length(0x09, 0x80), errControlPieces},
		{"close in pieces", length(0x08, 0x80), errControlPieces},
		{"continuation of nothing", clientFrame(true, opContinuation, []byte("a"), 1), errNoMessage},
		{"continuation after the end", append(clientFrame(true, opBinary, nil, 1), clientFrame(true, opContinuation, nil, 1)...), errNoMessage},
		{"binary inside a message", append(clientFrame(false, opBinary, nil, 1), clientFrame(true, opBinary, nil, 1)...), errInsideMessage},
	} {
		for n := 1; n <= max(1, len(c.bytes)); n++ {
			_, _, err := decodeAll(pieces(c.bytes, n), 0)
			if !errors.Is(err, c.want) {
				t.Errorf("%s in pieces of %d: got %v, want %v", c.name, n, err, c.want)
			}
		}
	}
}

func TestErrorAfterPayload(t *testing.T) {
	b := append(clientFrame(true, opBinary, []byte("good"), 1), clientFrame(true, opText, []byte("bad"), 1)...)
	if got, _, err := decodeAll([][]byte{b}, 0); string(got) != "good" || !errors.Is(err, errText) {
		t.Errorf("got %q, %v; want the payload before the error, and %v", got, err, errText)
	}
}

func TestFrameHeaderBoundaries(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537, 1 << 20} {
		payload := bytes.Repeat([]byte{0x5A}, n)
		got, _, err := decodeAll([][]byte{clientFrame(true, opBinary, payload, 0x12345678)}, 0)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if len(appendFrameHeader(nil, opBinary, n)) > frameRoom {
			t.Errorf("%d bytes: the header is longer than %d", n, frameRoom)
		}
	}
}

func TestCheckClose(t *testing.T) {
	code := func(n uint16, text string) []byte { return append(binary.BigEndian.AppendUint16(nil, n), text...) }
	for _, c := range []struct {
		payload []byte
		code    uint16
		ok      bool
	}{
		{nil, 1000, true},
		{[]byte{3}, 0, false},
		{code(1000, "bye"), 1000, true},
		{code(999, ""), 0, false},
		{code(1001, ""), 1001, true},
		{code(1004, ""), 0, false},
		{code(1005, ""), 0, false},
		{code(1006, ""), 0, false},
		{code(1014, ""), 1014, true},
		{code(1015, ""), 0, false},
		{code(2999, ""), 0, false},
		{code(3000, ""), 3000, true},
		{code(4999, ""), 4999, true},
		{code(5000, ""), 0, false},
	} {
		got, err := checkClose(c.payload)
		if got != c.code || (err == nil) != c.ok {
			t.Errorf("%x: got %d, %v; want %d, ok %v", c.payload, got, err, c.code, c.ok)
		}
	}
}

// FuzzFrames: whatever comes, cut wherever it may be, decode gives the same as
// in one piece, and what it accepts gorilla's reader accepts too.
func FuzzFrames(f *testing.F) {
	f.Add(clientFrame(true, opBinary, []byte("hello"), 1), 3)
	f.Add(append(clientFrame(false, opBinary, []byte("a"), 2), clientFrame(true, opContinuation, []byte("b"), 3)...), 1)
	f.Add(append(clientFrame(true, opPing, []byte("p"), 2), clientFrame(true, opClose, []byte{3, 232}, 3)...), 7)
	f.Add([]byte{0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5}, 2)
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		if len(stream) == 0 {
			return
		}
		whole, ctl, err := decodeAll([][]byte{bytes.Clone(stream)}, 0)
		cut, ctl2, err2 := decodeAll(pieces(bytes.Clone(stream), 1+(n&0x7F)), (n>>7)&0x1F)
		// A frame that is wrong twice may be refused for either.
		if codeOf(err) != codeOf(err2) {
			t.Fatalf("in one piece %v, cut %v", err, err2)
		}
		if !bytes.Equal(whole, cut) {
			t.Fatalf("in one piece %x, cut %x", whole, cut)
		}
		if len(ctl.frames) != len(ctl2.frames) {
			t.Fatalf("control frames: in one piece %q, cut %q", ctl.frames, ctl2.frames)
		}
		theirs, theirErr := gorillaReads(stream)
		if err == nil && theirErr != nil {
			t.Fatalf("accepted, but gorilla says %v", theirErr)
		}
		if err == nil && !bytes.HasPrefix(whole, theirs) {
			t.Fatalf("payload %x, gorilla's %x", whole, theirs)
		}
	})
}

// codeOf is the close code of an error; 0: none.
func codeOf(err error) uint16 {
	var we *wsError
	if errors.As(err, &we) {
		return we.code
	}
	return 0
}

// gorillaReads gives the stream to gorilla's server side and returns the
// payload of the binary messages that ended. A stream that ends early is no
// error, nor is a text frame.
func gorillaReads(stream []byte) ([]byte, error) {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_, _ = a.Write(stream)
		_ = a.Close()
	}()
	c := newGorillaServer(b)
	c.SetPingHandler(func(string) error { return nil })
	c.SetCloseHandler(func(int, string) error { return nil })
	var got []byte
	for {
		typ, msg, err := c.ReadMessage()
		var ce *websocket.CloseError
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.As(err, &ce):
			return got, nil
		case err != nil:
			return got, err
		case typ == websocket.BinaryMessage:
			got = append(got, msg...)
		}
	}
}

// newGorillaServer makes a server's connection without an upgrade.
func newGorillaServer(nc net.Conn) *websocket.Conn {
	u := websocket.Upgrader{}
	w := &hijack{nc: nc}
	c, err := u.Upgrade(w, upgradeOf("/"), nil)
	if err != nil {
		panic(err)
	}
	w.done = true
	_ = nc.SetDeadline(time.Now().Add(testkit.Patience))
	return c
}

// TestPacketEnds: however a stream is cut, its packets end where they end.
func TestPacketEnds(t *testing.T) {
	var stream []byte
	var want []int
	for _, n := range []int{0, 0, 1, 127, 128, 0, 16383, 16384, 2, 2097152, 5} {
		stream = append(stream, 0x30)
		for v := n; ; v >>= 7 {
			if v < 0x80 {
				stream = append(stream, byte(v))
				break
			}
			stream = append(stream, byte(v)|0x80)
		}
		stream = append(stream, bytes.Repeat([]byte{0x80}, n)...)
		want = append(want, len(stream))
	}
	for _, size := range []int{1, 2, 3, 7, 100, 16384, len(stream)} {
		var p packetEnds
		var got []int
		at := 0
		for piece := range slices.Chunk(stream, size) {
			for len(piece) > 0 {
				n := p.next(piece)
				if n <= 0 || n > len(piece) {
					t.Fatalf("pieces of %d: %d of %d bytes", size, n, len(piece))
				}
				at += n
				piece = piece[n:]
				if p == (packetEnds{}) {
					got = append(got, at)
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pieces of %d: packets end at %v, want %v", size, got, want)
		}
	}
}

// FuzzPacketEnds: whatever a broker sends, in whatever pieces, is framed without
// an end. What has no packets in it any more is one frame a piece.
func FuzzPacketEnds(f *testing.F) {
	f.Add([]byte{0xD0, 0, 0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 'a', 'b', 'c'}, 16)
	f.Add([]byte{0xD0, 0, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 'a', 'b', 'c'}, 5)
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 'a', 0x30}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 {
			return
		}
		var p packetEnds
		for piece := range slices.Chunk(stream, size) {
			for len(piece) > 0 {
				n := p.next(piece)
				if n <= 0 || n > len(piece) {
					t.Fatalf("% x in pieces of %d: %d of %d bytes, %+v", stream, size, n, len(piece), p)
				}
				piece = piece[n:]
			}
		}
	})
}

// TestPacketEndsLost: after a broken length no packets are looked for.
func TestPacketEndsLost(t *testing.T) {
	var p packetEnds
	stream := []byte{0xD0, 0, 0x30, 0x80, 0x80, 0x80, 0x80, 0x01, 0xD0, 0, 0xD0, 0}
	if n := p.next(stream); n != 2 {
		t.Errorf("the first packet ends at %d, want 2", n)
	}
	for range 2 {
		if n := p.next(stream[2:]); n != len(stream)-2 {
			t.Errorf("%d bytes in the frame after it, want %d", n, len(stream)-2)
		}
	}
}

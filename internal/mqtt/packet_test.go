package mqtt_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// view is any packet's view, parsed whole.
type view struct {
	Header      mqtt.Header
	Version     mqtt.Version
	Connect     *mqtt.Connect
	Connack     *mqtt.Connack
	Publish     *mqtt.Publish
	Ack         *mqtt.Ack
	Subscribe   *mqtt.Subscribe
	Suback      *mqtt.Suback
	Unsubscribe *mqtt.Unsubscribe
	Disconnect  *mqtt.Disconnect
}

// parse reads the packet at the start of b.
func parse(b []byte, v mqtt.Version, from mqtt.Side) (p view, err error) {
	if len(b) > 0 && mqtt.Type(b[0]>>4) == mqtt.CONNECT {
		v = 0
	}
	if p.Header, err = mqtt.ParseHeader(b, v, from); err != nil {
		return p, err
	}
	if len(b) < p.Header.Size() {
		return p, mqtt.ErrIncomplete
	}
	err = p.parseBody(v, from, b[p.Header.Len:p.Header.Size()])
	return p, err
}

func (p *view) parseBody(v mqtt.Version, from mqtt.Side, body []byte) error {
	p.Version = v
	switch p.Header.Type {
	case mqtt.CONNECT:
		p.Connect = new(mqtt.Connect)
		err := p.Connect.Parse(body)
		p.Version = p.Connect.Version
		return err
	case mqtt.CONNACK:
		p.Connack = new(mqtt.Connack)
		return p.Connack.Parse(v, body)
	case mqtt.PUBLISH:
		p.Publish = new(mqtt.Publish)
		return p.Publish.Parse(p.Header, v, body)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		p.Ack = new(mqtt.Ack)
		return p.Ack.Parse(p.Header, v, body)
	case mqtt.SUBSCRIBE:
		p.Subscribe = new(mqtt.Subscribe)
		return p.Subscribe.Parse(p.Header, v, body)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		p.Suback = new(mqtt.Suback)
		return p.Suback.Parse(p.Header, v, body)
	case mqtt.UNSUBSCRIBE:
		p.Unsubscribe = new(mqtt.Unsubscribe)
		return p.Unsubscribe.Parse(p.Header, v, body)
	case mqtt.DISCONNECT, mqtt.AUTH:
		p.Disconnect = new(mqtt.Disconnect)
		return p.Disconnect.Parse(p.Header, v, from, body)
	}
	return nil
}

// encode writes the packet that was parsed.
func (p view) encode() []byte {
	dst := []byte{0xAA} // Append appends
	switch t := p.Header.Type; t {
	case mqtt.CONNECT:
		dst = p.Connect.Append(dst)
	case mqtt.CONNACK:
		dst = p.Connack.Append(dst, p.Version)
	case mqtt.PUBLISH:
		dst = p.Publish.Append(dst, p.Version)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		dst = p.Ack.Append(dst, t, p.Version)
	case mqtt.SUBSCRIBE:
		dst = p.Subscribe.Append(dst, p.Version)
	case mqtt.SUBACK, mqtt.UNSUBACK:
		dst = p.Suback.Append(dst, t, p.Version)
	case mqtt.UNSUBSCRIBE:
		dst = p.Unsubscribe.Append(dst, p.Version)
	case mqtt.PINGREQ, mqtt.PINGRESP:
		dst = mqtt.AppendPing(dst, t)
	case mqtt.DISCONNECT, mqtt.AUTH:
		dst = p.Disconnect.Append(dst, t, p.Version)
	}
	return dst[1:]
}

// checkCanonical is the property of the package: a packet that is accepted
// encodes back to its bytes, unless its Remaining Length was overlong; then the
// rest does.
func checkCanonical(t *testing.T, b []byte, p view) {
	t.Helper()
	whole, got := b[:p.Header.Size()], p.encode()
	if !p.Header.Overlong {
		if !bytes.Equal(got, whole) {
			t.Fatalf("%v %v\nparsed  %x\nencoded %x", p.Version, p.Header.Type, whole, got)
		}
		return
	}
	h, err := mqtt.ParseHeader(got, p.Version, mqtt.Client)
	if errCode(err) == mqtt.ProtocolError {
		h, err = mqtt.ParseHeader(got, p.Version, mqtt.Broker)
	}
	if err != nil || h.Overlong || got[0] != whole[0] || !bytes.Equal(got[h.Len:], whole[p.Header.Len:]) {
		t.Fatalf("%v %v overlong (%v)\nparsed  %x\nencoded %x", p.Version, p.Header.Type, err, whole, got)
	}
}

func errCode(err error) mqtt.ReasonCode {
	if e := (*mqtt.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// checkRefusal says that err is a refusal with everything a reader needs.
func checkRefusal(t *testing.T, b []byte, err error) *mqtt.Error {
	t.Helper()
	var e *mqtt.Error
	if !errors.As(err, &e) {
		t.Fatalf("%x: %v is not an *Error", b, err)
	}
	if !e.Code.Failed() || e.Clause == "" || e.Text == "" || e.Offset < -1 || e.Offset > len(b) {
		t.Fatalf("%x: incomplete refusal %+v", b, e)
	}
	return e
}

func TestCatalogue(t *testing.T) {
	var good, bad int
	for _, p := range testkit.Packets() {
		t.Run(p.Name, func(t *testing.T) {
			got, err := parse(p.Bytes, p.Version, p.From)
			if p.Good() {
				good++
				if err != nil {
					t.Fatalf("%.80x: %v", p.Bytes, err)
				}
				if got.Header.Size() != len(p.Bytes) {
					t.Fatalf("%.80x: %d bytes, read %d", p.Bytes, len(p.Bytes), got.Header.Size())
				}
				if got.Header.Overlong != p.Overlong {
					t.Fatalf("%.80x: overlong %v, want %v", p.Bytes, got.Header.Overlong, p.Overlong)
				}
				if got.Version != p.Version && got.Header.Type != mqtt.PINGREQ {
					t.Fatalf("%.80x: version %v, want %v", p.Bytes, got.Version, p.Version)
				}
				checkCanonical(t, p.Bytes, got)
				return
			}
			bad++
			if err == nil {
				t.Fatalf("%.80x: accepted, want %s", p.Bytes, p.Clause)
			}
			if e := checkRefusal(t, p.Bytes, err); e.Clause != p.Clause || e.Code != p.Code {
				t.Fatalf("%.80x: %v\ngot  %s %#x\nwant %s %#x", p.Bytes, e, e.Clause, byte(e.Code), p.Clause, byte(p.Code))
			}
		})
	}
	t.Logf("%d good, %d malformed", good, bad)
	if good+bad < 250 {
		t.Errorf("the catalogue has only %d packets", good+bad)
	}
}

// TestEveryCut: no proper prefix of a packet parses; of a good one, no prefix is
// refused.
func TestEveryCut(t *testing.T) {
	for _, p := range testkit.Packets() {
		v := p.Version
		if p.Type() == mqtt.CONNECT {
			v = 0
		}
		for n := range len(p.Bytes) {
			part := p.Bytes[:n]
			h, err := mqtt.ParseHeader(part, v, p.From)
			switch {
			case err != nil && (p.Good() || errors.Is(err, mqtt.ErrIncomplete)):
				if !errors.Is(err, mqtt.ErrIncomplete) {
					t.Fatalf("%s cut at %d: %v", p.Name, n, err)
				}
				continue
			case err != nil:
				checkRefusal(t, part, err)
				continue
			case h.Size() <= n:
				t.Fatalf("%s cut at %d: a packet of %d bytes", p.Name, n, h.Size())
			}
			cutBody(t, p, h, part[h.Len:])
		}
	}
}

func cutBody(t *testing.T, p testkit.Packet, h mqtt.Header, body []byte) {
	t.Helper()
	v := p.Version
	switch h.Type {
	case mqtt.CONNECT, mqtt.CONNACK:
		// These take a body as the whole one; a malformed packet may begin with
		// a good one.
		var err error
		if h.Type == mqtt.CONNECT {
			err = new(mqtt.Connect).Parse(body)
		} else {
			err = new(mqtt.Connack).Parse(v, body)
		}
		switch {
		case err != nil:
			checkRefusal(t, body, err)
		case p.Good():
			t.Fatalf("%s: accepted with %d of %d bytes", p.Name, len(body), h.Length)
		}
		return
	case mqtt.PUBLISH:
		var head mqtt.Publish
		n, err := head.ParseHead(h, v, body)
		switch {
		case errors.Is(err, mqtt.ErrIncomplete):
		case err != nil && p.Good():
			t.Fatalf("%s: head refused with %d of %d bytes: %v", p.Name, len(body), h.Length, err)
		case err != nil:
			checkRefusal(t, p.Bytes, err)
		case n > len(body):
			t.Fatalf("%s: head of %d in %d bytes", p.Name, n, len(body))
		}
	}
	x := view{Header: h}
	if err := x.parseBody(v, p.From, body); !errors.Is(err, mqtt.ErrIncomplete) {
		t.Fatalf("%s: %d of %d bytes: %v", p.Name, len(body), h.Length, err)
	}
}

// TestPublishHead: the head is the same however much of the payload is there,
// and whatever follows the packet.
func TestPublishHead(t *testing.T) {
	for _, p := range testkit.Packets() {
		if p.Type() != mqtt.PUBLISH || !p.Good() {
			continue
		}
		whole, err := parse(p.Bytes, p.Version, p.From)
		if err != nil {
			t.Fatal(err)
		}
		h, body := whole.Header, p.Bytes[whole.Header.Len:]
		size := h.Length - len(whole.Publish.Payload)
		for n := size; n <= len(body)+3; n++ {
			b := append(bytes.Clone(body), 0x30, 0, 0)[:n]
			var head mqtt.Publish
			got, err := head.ParseHead(h, p.Version, b)
			if err != nil || got != size {
				t.Fatalf("%s with %d bytes: head of %d, %v; want %d", p.Name, n, got, err, size)
			}
			if head.Payload != nil || string(head.Topic) != string(whole.Publish.Topic) || head.PacketID != whole.Publish.PacketID {
				t.Fatalf("%s: head %+v", p.Name, head)
			}
			if n > size+100 {
				break
			}
		}
		rest := whole.Publish.AppendHead(nil, p.Version, len(whole.Publish.Payload))
		if got := string(rest) + string(whole.Publish.Payload); !p.Overlong && got != string(p.Bytes) {
			t.Fatalf("%s: AppendHead gives %x, want %x", p.Name, got, p.Bytes)
		}
	}
}

// TestOneBitFlipped: no bit of a packet makes the codec panic or accept what it
// does not encode back.
func TestOneBitFlipped(t *testing.T) {
	for _, p := range testkit.Packets() {
		if len(p.Bytes) > 200 {
			continue
		}
		b := bytes.Clone(p.Bytes)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				checkAny(t, b, p.Version, p.From)
				b[i] ^= 1 << bit
			}
		}
	}
}

// TestLengthLies: a Remaining Length that says more or less than there is.
func TestLengthLies(t *testing.T) {
	for _, p := range testkit.Packets() {
		h, err := mqtt.ParseHeader(p.Bytes, 0, p.From)
		if err != nil || len(p.Bytes) > 4096 {
			continue
		}
		body := p.Bytes[h.Len:]
		for n := range len(body) {
			checkAny(t, testkit.Raw(p.Bytes[0], body[:n]), p.Version, p.From)
		}
		for _, more := range []string{"\x00", "\x00\x00", "\x00\x01a", "\xFF"} {
			checkAny(t, testkit.Raw(p.Bytes[0], body, []byte(more)), p.Version, p.From)
		}
	}
}

// checkAny says what holds of any bytes at all.
func checkAny(t *testing.T, b []byte, v mqtt.Version, from mqtt.Side) {
	t.Helper()
	p, err := parse(b, v, from)
	switch {
	case err == nil:
		checkCanonical(t, b, p)
		for n := range min(p.Header.Size(), 300) {
			if _, err := parse(b[:n], v, from); !errors.Is(err, mqtt.ErrIncomplete) {
				t.Fatalf("%x parses, its first %d bytes give %v", b, n, err)
			}
		}
	case !errors.Is(err, mqtt.ErrIncomplete):
		checkRefusal(t, b, err)
	}
}

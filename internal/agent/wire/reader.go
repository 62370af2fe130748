package wire

import (
	"io"
)

// Message is one message as it came. Payload is a view into the reader's
// buffer, valid until the next call of Next.
type Message struct {
	Type    Type // 0 in v1
	Payload []byte
}

// The reader's buffer: what it starts with, and what it keeps when a large
// message has gone through.
const (
	initialBuffer = 4 << 10
	steadyBuffer  = 64 << 10
)

// Reader reads messages. Its buffer grows with bytes that arrived, never with
// a length that was promised. It belongs to one goroutine.
type Reader struct {
	r          io.Reader
	gen        Generation
	buf        []byte
	start, end int
}

// NewReader reads from r. The generation is found out from the first bytes
// unless it is given.
func NewReader(r io.Reader, g Generation) *Reader { return &Reader{r: r, gen: g} }

// Generation is 0 until the first five bytes have come.
func (r *Reader) Generation() Generation { return r.gen }

// Next returns the next message and blocks until it is whole. At the end of the
// stream it returns io.EOF between messages, io.ErrUnexpectedEOF inside one.
func (r *Reader) Next() (Message, error) {
	for {
		m, ok, err := r.Buffered()
		if ok || err != nil {
			return m, err
		}
		if err := r.Fill(); err != nil {
			return Message{}, err
		}
	}
}

// Buffered returns the next message if it has already been read.
func (r *Reader) Buffered() (Message, bool, error) {
	b := r.buf[r.start:r.end]
	if r.gen == 0 {
		if err := plausible(b); err != nil || len(b) < DetectLen {
			return Message{}, false, err
		}
		g, err := Detect(b)
		if err != nil {
			return Message{}, false, err
		}
		r.gen = g
	}
	if len(b) < headerLen {
		return Message{}, false, nil
	}
	n, err := r.gen.size(b)
	if err != nil {
		return Message{}, false, err
	}
	if len(b)-headerLen < n {
		return Message{}, false, nil
	}
	body := b[headerLen : headerLen+n]
	r.start += headerLen + n
	if r.gen == V1 {
		return Message{Payload: body}, true, nil
	}
	return Message{Type: Type(body[0]), Payload: body[1:]}, true, nil
}

// plausible looks at the first bytes of a connection before there are enough to
// tell the generation: a length that neither has need not be waited for.
func plausible(b []byte) error {
	switch {
	case len(b) > 0 && b[0] > MaxV2>>24:
		return ErrTooLarge
	case len(b) >= headerLen:
		_, err := V2.size(b)
		return err
	}
	return nil
}

// Fill reads once, after making room: what to do when Buffered has nothing.
func (r *Reader) Fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > steadyBuffer {
			r.buf = make([]byte, steadyBuffer)
		}
	}
	if r.end == len(r.buf) {
		if r.start > 0 && r.start >= len(r.buf)/2 {
			r.end = copy(r.buf, r.buf[r.start:r.end])
		} else {
			grown := make([]byte, max(initialBuffer, 2*len(r.buf)))
			r.end = copy(grown, r.buf[r.start:r.end])
			r.buf = grown
		}
		r.start = 0
	}
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && r.start != r.end {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

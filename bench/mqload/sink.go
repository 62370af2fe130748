//go:build linux

package main

// Counterparts for judging mqload itself: sink, the least a broker can do, and
// relay, the least a proxy written in Go can do.

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sink acknowledges everything. With echo it also delivers, by exact topic,
// without retransmission or queue limits. The faults are for mqload's tests.
type sink struct {
	echo         bool
	dropEvery    uint64
	dupEvery     uint64
	corruptEvery uint64
	swapEvery    uint64
	delay        time.Duration

	mu       sync.RWMutex
	topics   map[string][]*sinkConn
	n        atomic.Uint64
	received atomic.Uint64
	faults   atomic.Uint64 // deliveries that were made wrong
}

type sinkConn struct {
	client
	out  []byte
	mu   sync.Mutex
	cond *sync.Cond
	qos  byte
	id   uint16
	done bool
}

func (s *sink) serve(l net.Listener) error {
	s.topics = map[string][]*sinkConn{}
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		c := &sinkConn{client: client{nc: nc, raw: nc, buf: make([]byte, 4096)}}
		c.cond = sync.NewCond(&c.mu)
		go s.handle(c)
		if s.echo {
			go c.writer(s.delay)
		}
	}
}

func (s *sink) handle(c *sinkConn) {
	defer func() {
		c.mu.Lock()
		c.done = true
		c.cond.Broadcast()
		c.mu.Unlock()
		c.nc.Close()
		s.mu.Lock()
		for t, list := range s.topics {
			for i, o := range list {
				if o == c {
					s.topics[t] = append(append([]*sinkConn(nil), list[:i]...), list[i+1:]...)
					break
				}
			}
		}
		s.mu.Unlock()
	}()
	var out []byte
	for c.fill() == nil {
		if c.w == len(c.buf) && len(c.buf) < 64<<10 { // a busy connection: read more at a time
			c.buf = append(c.buf, make([]byte, 64<<10-len(c.buf))...)
		}
		touched := map[*sinkConn]bool{}
		for out = out[:0]; ; {
			hdr, b, ok, err := c.next()
			if err != nil {
				return
			}
			if !ok {
				break
			}
			switch hdr >> 4 {
			case ptConnect:
				if c.proto = int(b[6]); c.proto == 5 {
					out = append(out, ptConnack<<4, 3, 0, 0, 0)
				} else {
					out = append(out, ptConnack<<4, 2, 0, 0)
				}
			case ptPublish:
				topic, id, pay, ok := publishBody(hdr, b, c.proto)
				if !ok {
					return
				}
				s.received.Add(1)
				if qos := hdr >> 1 & 3; qos == 1 {
					out = append(out, ptPuback<<4, 2, byte(id>>8), byte(id))
				} else if qos == 2 {
					out = append(out, ptPubrec<<4, 2, byte(id>>8), byte(id))
				}
				if s.echo {
					s.route(topic, pay, touched)
				}
			case ptPubrec:
				out = append(out, ptPubrel<<4|2, 2, b[0], b[1])
			case ptPubrel:
				out = append(out, ptPubcomp<<4, 2, b[0], b[1])
			case ptSubscribe:
				out = s.subscribe(c, b, out)
			case ptPingreq:
				out = append(out, ptPingresp<<4, 0)
			case ptDisconnect:
				return
			}
		}
		for o := range touched {
			o.cond.Signal()
		}
		if len(out) > 0 && c.write(out) != nil {
			return
		}
	}
}

func (s *sink) subscribe(c *sinkConn, b, out []byte) []byte {
	id, codes := b[:2], []byte(nil)
	if b = b[2:]; c.proto == 5 {
		n, k := uvarint(b)
		b = b[k+n:]
	}
	s.mu.Lock()
	for len(b) > 2 {
		n := int(binary.BigEndian.Uint16(b))
		t := string(b[2 : 2+n])
		c.qos = b[2+n] & 3
		codes = append(codes, c.qos)
		s.topics[t] = append(s.topics[t], c)
		b = b[3+n:]
	}
	s.mu.Unlock()
	body := append([]byte(nil), id...)
	if c.proto == 5 {
		body = append(body, 0)
	}
	return append(out, packet(ptSuback<<4, append(body, codes...))...)
}

// route queues a message at every subscriber of its topic.
func (s *sink) route(topic, pay []byte, touched map[*sinkConn]bool) {
	s.mu.RLock()
	list := s.topics[string(topic)]
	s.mu.RUnlock()
	n := s.n.Add(1)
	every := func(k uint64) bool { return k > 0 && n%k == 0 }
	if every(s.dropEvery) {
		s.faults.Add(uint64(len(list)))
		return
	}
	for _, o := range list {
		o.mu.Lock()
		for len(o.out) > 4<<20 && !o.done {
			o.cond.Wait()
		}
		start := len(o.out)
		size := 2 + len(topic) + len(pay)
		if o.qos > 0 {
			size += 2
		}
		if o.proto == 5 {
			size++
		}
		o.out = appendUvarint(append(o.out, ptPublish<<4|o.qos<<1), size)
		o.out = append(binary.BigEndian.AppendUint16(o.out, uint16(len(topic))), topic...)
		if o.qos > 0 {
			if o.id++; o.id == 0 {
				o.id = 1
			}
			o.out = binary.BigEndian.AppendUint16(o.out, o.id)
		}
		if o.proto == 5 {
			o.out = append(o.out, 0)
		}
		o.out = append(o.out, pay...)
		end := len(o.out)
		switch one := end - start; {
		case every(s.corruptEvery):
			o.out[end-1] ^= 1
			s.faults.Add(1)
		case every(s.dupEvery):
			o.out = append(o.out, o.out[start:]...)
			s.faults.Add(1)
		case every(s.swapEvery) && start >= one: // the packet before is as long: swap the two
			prev := append([]byte(nil), o.out[start-one:start]...)
			copy(o.out[start-one:], o.out[start:end])
			copy(o.out[start:], prev)
			s.faults.Add(1)
		}
		touched[o] = true
		o.mu.Unlock()
	}
}

func (c *sinkConn) writer(delay time.Duration) {
	var b []byte
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.done {
			c.cond.Wait()
		}
		if c.done {
			c.mu.Unlock()
			return
		}
		b, c.out = c.out, b[:0]
		c.cond.Broadcast()
		c.mu.Unlock()
		time.Sleep(delay)
		if c.write(b) != nil {
			c.nc.Close()
			return
		}
	}
}

// relay forwards bytes both ways: through user space, or with splice(2), which
// is what io.Copy does between two TCP connections.
func relay(l net.Listener, upstream string, splice bool) error {
	for {
		a, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer a.Close()
			b, err := net.Dial("tcp", upstream)
			if err != nil {
				return
			}
			defer b.Close()
			move := func(dst, src net.Conn) {
				if splice {
					io.Copy(dst, src)
				} else {
					io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 16<<10))
				}
				dst.(*net.TCPConn).CloseWrite()
			}
			done := make(chan struct{})
			go func() { move(b, a); close(done) }()
			move(a, b)
			<-done
		}()
	}
}

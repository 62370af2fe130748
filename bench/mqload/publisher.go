//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Payload layout: sent and intended time (ns), sequence number per publisher,
// run number, publisher, then 'x' up to the size.
const (
	offSent, offDue, offSeq, offRun, offPub = 0, 8, 16, 24, 28
	minPayload                              = 32
	pad                                     = 'x'
)

type publisher struct {
	c         *client
	tmpl      [][]byte // a finished packet per topic
	payload   []int    // where its payload starts
	fan       []int64  // deliveries a message on it makes
	maxFan    int64
	window    int64
	seq       uint64
	sent      atomic.Uint64
	completed atomic.Uint64
	expected  atomic.Int64 // deliveries due
	_         [64]byte
	delivered atomic.Int64 // deliveries made
	inflight  atomic.Int64
	wake      chan struct{}
	state     []atomic.Uint32 // per packet id: 0 free, 1 published, 2 released
	since     []int64         // per packet id: when written
	ack       hist
	stalls    uint64
	forgiven  int64 // deliveries given up on when stalled
}

// addTopic prepares the packet for one topic; publish only patches it.
func (p *publisher) addTopic(r *run, topic string, pub int) {
	b := appendStr(nil, topic)
	if r.QoS > 0 {
		b = append(b, 0, 0)
	}
	if r.Proto == 5 {
		b = append(b, 0)
	}
	pay := make([]byte, r.Size)
	for i := range pay {
		pay[i] = pad
	}
	binary.LittleEndian.PutUint32(pay[offRun:], r.id)
	binary.LittleEndian.PutUint32(pay[offPub:], uint32(pub))
	pkt := packet(ptPublish<<4|byte(r.QoS)<<1, append(b, pay...))
	p.tmpl, p.payload = append(p.tmpl, pkt), append(p.payload, len(pkt)-r.Size)
}

// credit says how many messages the windows still allow. At QoS 0 the window
// counts messages not yet delivered; at QoS 1 and 2 messages not yet
// acknowledged, and twice as many not yet delivered.
func (p *publisher) credit(r *run) int64 {
	n := int64(1 << 20)
	if r.QoS > 0 {
		n = p.window - p.inflight.Load()
	}
	if p.maxFan > 0 {
		e2e := p.window
		if r.QoS > 0 {
			e2e *= 2
		}
		due := p.expected.Load() - p.delivered.Load() - p.forgiven
		n = min(n, (e2e*p.maxFan-max(due, 0))/p.maxFan)
	}
	return n
}

const batchBytes = 32 << 10

func (p *publisher) publish(r *run, idx int) error {
	f := framer{ws: p.c.ws, key: uint32(idx)*2654435761 + r.id}
	buf := make([]byte, 0, batchBytes+r.Size+1024)
	need := max(1, p.window/4) // wait for a quarter window, to write in batches
	var interval, next int64
	var clock *timer
	if r.Rate > 0 {
		var err error
		if clock, err = newTimer(); err != nil {
			return err
		}
		defer clock.f.Close()
		interval, need = int64(1e9*float64(r.Pubs)/r.Rate), 1
		next = nano() + interval*int64(idx)/int64(r.Pubs)
	}
	var id uint16
	turn, progress := 0, nano()
	lastSeen := int64(-1)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !r.stop.Load() {
		now, n := nano(), p.credit(r)
		if interval > 0 {
			if now < next {
				if err := clock.sleep(next - now); err != nil {
					return err
				}
				continue
			}
			n = min(n, (now-next)/interval+1)
		}
		if n < need {
			if seen := p.delivered.Load() - p.inflight.Load(); seen != lastSeen {
				lastSeen, progress = seen, now
			} else if now-progress > int64(time.Second) {
				p.stalls++
				p.forgiven = p.expected.Load() - p.delivered.Load()
				progress = now
			}
			select {
			case <-p.wake:
			case <-tick.C:
			}
			continue
		}
		buf = buf[:0]
		var count, due int64
		for ; count < n && len(buf) < batchBytes; count++ {
			tmpl, at := p.tmpl[turn], p.payload[turn]
			buf = f.open(buf, len(tmpl))
			start := len(buf)
			buf = append(buf, tmpl...)
			pkt := buf[start:]
			pay := pkt[at:]
			p.seq++
			binary.LittleEndian.PutUint64(pay[offSent:], uint64(now))
			binary.LittleEndian.PutUint64(pay[offDue:], uint64(now))
			if interval > 0 {
				binary.LittleEndian.PutUint64(pay[offDue:], uint64(next))
				next += interval
			}
			binary.LittleEndian.PutUint64(pay[offSeq:], p.seq)
			if r.QoS > 0 {
				for id++; id == 0 || p.state[id].Load() != 0; id++ {
				}
				p.since[id] = now
				p.state[id].Store(1)
				at -= 2
				if r.Proto == 5 {
					at--
				}
				binary.BigEndian.PutUint16(pkt[at:], id)
			}
			f.seal(pkt)
			due += p.fan[turn]
			if turn++; turn == len(p.tmpl) {
				turn = 0
			}
		}
		p.expected.Add(due)
		p.sent.Add(uint64(count))
		if r.QoS > 0 {
			p.inflight.Add(count)
		} else {
			p.completed.Add(uint64(count))
		}
		if err := p.c.write(buf); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// readAcks finishes the publisher's QoS 1 and 2 handshakes.
func (p *publisher) readAcks(r *run) error {
	f := framer{ws: p.c.ws, key: r.id}
	var out []byte
	for {
		if err := p.c.fill(); err != nil {
			return err
		}
		now, done := nano(), int64(0)
		t0, t1 := r.t0.Load(), r.t1.Load()
		for out = out[:0]; ; {
			hdr, b, ok, err := p.c.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			kind := hdr >> 4
			if kind == ptPingresp {
				r.pongs.Add(1)
				continue
			}
			if kind < ptPuback || kind > ptPubcomp || kind == ptPubrel || len(b) < 2 || p.state == nil {
				return unexpected(hdr, b)
			}
			id := binary.BigEndian.Uint16(b)
			refused := len(b) > 2 && b[2] >= 0x80
			if refused {
				r.rejected.Add(1)
			}
			want := uint32(1)
			if kind == ptPubcomp {
				want = 2
			}
			if p.state[id].Load() != want || (kind == ptPuback) != (r.QoS == 1) {
				return fmt.Errorf("packet type %d for packet id %d, which awaits none", kind, id)
			}
			if kind == ptPubrec && !refused {
				p.state[id].Store(2)
				out = f.append(out, ptPubrel<<4|2, 2, byte(id>>8), byte(id))
				continue
			}
			if s := p.since[id]; s >= t0 && s < t1 {
				p.ack.add(now - s)
			}
			p.state[id].Store(0)
			done++
		}
		if done > 0 {
			p.inflight.Add(-done)
			p.completed.Add(uint64(done))
			p.poke()
		}
		if len(out) > 0 {
			if err := p.c.write(out); err != nil {
				return err
			}
		}
	}
}

// timer is a timerfd behind the runtime's poller: it wakes within some tens of
// microseconds, where time.Sleep has a millisecond's grain, and holds no thread.
type timer struct{ f *os.File }

func newTimer() (*timer, error) {
	fd, _, e := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, 1, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if e != 0 {
		return nil, e
	}
	return &timer{os.NewFile(fd, "timerfd")}, nil
}

func (t *timer) sleep(ns int64) error {
	spec := [2]syscall.Timespec{1: syscall.NsecToTimespec(max(ns, 1))}
	rc, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	rc.Control(func(fd uintptr) {
		syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	})
	var b [8]byte
	_, err = t.f.Read(b[:])
	return err
}

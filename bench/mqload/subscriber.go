//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

type subscriber struct {
	c                                *client
	unique, dup, reord, bad, foreign uint64
	total                            atomic.Uint64 // unique
	lat, due                         hist
	seen                             []seqWindow // per publisher
}

// seqWindow tells new, reordered and repeated sequence numbers apart, within
// the last 1024 (RFC 6479's sliding bitmap).
type seqWindow struct {
	last uint64
	bits [16]uint64
}

func (w *seqWindow) add(seq uint64) (fresh, late bool) {
	if seq > w.last {
		for i := w.last/64 + 1; i <= seq/64 && i <= w.last/64+16; i++ {
			w.bits[i%16] = 0
		}
		w.last = seq
	} else if late = true; w.last-seq > 1023-64 {
		return false, true
	}
	word, bit := &w.bits[seq/64%16], uint64(1)<<(seq%64)
	fresh = *word&bit == 0
	*word |= bit
	return fresh, late
}

func (s *subscriber) read(r *run) error {
	f := framer{ws: s.c.ws, key: r.id}
	var out []byte
	got := make([]int64, r.Pubs)
	for {
		if err := s.c.fill(); err != nil {
			return err
		}
		now := nano()
		t0, t1 := r.t0.Load(), r.t1.Load()
		before := s.unique
		for out = out[:0]; ; {
			hdr, b, ok, err := s.c.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			switch hdr >> 4 {
			case ptPublish:
				_, id, pay, ok := publishBody(hdr, b, r.Proto)
				if ok {
					if qos := hdr >> 1 & 3; qos == 1 {
						out = f.append(out, ptPuback<<4, 2, byte(id>>8), byte(id))
					} else if qos == 2 {
						out = f.append(out, ptPubrec<<4, 2, byte(id>>8), byte(id))
					}
				}
				if !ok || !s.message(r, pay, now, t0, t1, got) {
					s.bad++
				}
			case ptPubrel:
				if len(b) < 2 {
					return unexpected(hdr, b)
				}
				out = f.append(out, ptPubcomp<<4, 2, b[0], b[1])
			default:
				return unexpected(hdr, b)
			}
		}
		if s.unique != before {
			s.total.Store(s.unique)
			for i, n := range got {
				if n > 0 {
					r.pubs[i].delivered.Add(n)
					r.pubs[i].poke()
					got[i] = 0
				}
			}
		}
		if len(out) > 0 {
			if err := s.c.write(out); err != nil {
				return err
			}
		}
	}
}

// message books one delivery; false means it is not what was published.
func (s *subscriber) message(r *run, pay []byte, now, t0, t1 int64, got []int64) bool {
	if len(pay) < minPayload {
		return false
	}
	if run := binary.LittleEndian.Uint32(pay[offRun:]); run != r.id {
		if run>>12 == r.id>>12 && run < r.id {
			s.foreign++
			return true
		}
		return false
	}
	pub := binary.LittleEndian.Uint32(pay[offPub:])
	if len(pay) != r.Size || int(pub) >= r.Pubs || (r.Size > minPayload && (pay[minPayload] != pad || pay[r.Size-1] != pad)) {
		return false
	}
	fresh, late := s.seen[pub].add(binary.LittleEndian.Uint64(pay[offSeq:]))
	if !fresh {
		s.dup++
		return true
	}
	if late {
		s.reord++
	}
	s.unique++
	got[pub]++
	if sent := int64(binary.LittleEndian.Uint64(pay[offSent:])); sent >= t0 && sent < t1 {
		s.lat.add(now - sent)
		s.due.add(now - int64(binary.LittleEndian.Uint64(pay[offDue:])))
	}
	return true
}

func unexpected(hdr byte, b []byte) error {
	if hdr>>4 == ptDisconnect && len(b) > 0 {
		return fmt.Errorf("DISCONNECT from the server, reason 0x%02x", b[0])
	}
	return fmt.Errorf("unexpected packet, first byte 0x%02x", hdr)
}

package upstream

import (
	"context"
	"errors"
	"net/netip"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/netloop"
)

// Owner is whom a connection is dialled for.
type Owner interface {
	netloop.Handler // of the connection, once it is open
	// Dialled ends a dial. Without a connection there is no broker that takes
	// one: conn and b are nil. With one, b is to be released when the
	// connection ends.
	Dialled(conn netloop.Conn, b *Broker)
}

// Dial is a dial on its way. It belongs to the client's loop and is the handler
// of the connection until that is open.
type Dial struct {
	set    *Set
	client netloop.Conn // nil: it came to its end
	owner  Owner
	order  []*Broker    // still to be tried; the first is being tried
	addrs  []netip.Addr // of the first, still to be tried
	conn   netloop.Conn // being opened; nil: none is
	last   error
}

// Dial opens a connection to a broker as the other one of client's pair. The
// answer comes by owner.Dialled, perhaps before Dial returns. It must be called
// where the calls of client's handler come.
func (s *Set) Dial(client netloop.Conn, clientID string, owner Owner) *Dial {
	d := &Dial{set: s, client: client, owner: owner, order: s.order(clientID, client.Now())}
	d.broker()
	return d
}

// Cancel ends d without an answer: the client is gone. The connection being
// opened is closed. After the answer it does nothing.
func (d *Dial) Cancel() {
	if d.client == nil {
		return
	}
	d.client = nil
	if d.conn != nil {
		d.conn.Close()
	}
	if len(d.order) > 0 {
		d.order[0].Release()
	}
}

// Err is why the last broker was not reached; nil when none was tried.
func (d *Dial) Err() error { return d.last }

// answer ends d.
func (d *Dial) answer(conn netloop.Conn, b *Broker) {
	d.client = nil
	d.owner.Dialled(conn, b)
}

// broker begins with the first of the brokers that are left.
func (d *Dial) broker() {
	for ; len(d.order) > 0; d.order = d.order[1:] {
		b := d.order[0]
		if d.set.ctx.Err() != nil {
			break
		}
		if !b.acquire() {
			d.last = errors.New("upstream: as many connections as max-connections allows")
			continue
		}
		if len(b.addr) > 0 {
			d.addrs = b.addr
			d.address()
			return
		}
		d.resolve(b)
		return
	}
	d.order = nil
	d.answer(nil, nil)
}

// resolve looks a name up in a goroutine, which ends with the look-up.
func (d *Dial) resolve(b *Broker) {
	client := d.client
	d.set.running.Go(func() {
		ctx, cancel := context.WithTimeout(d.set.ctx, d.set.timeout)
		defer cancel()
		addrs, err := b.resolve(ctx, d.set.lookup)
		client.Post(func() {
			switch {
			case d.client == nil:
			case err != nil:
				d.next(err)
			default:
				d.addrs = addrs
				d.address()
			}
		})
	})
}

// address dials the first of the addresses that are left.
func (d *Dial) address() {
	d.conn = nil
	for len(d.addrs) > 0 {
		to := netip.AddrPortFrom(d.addrs[0], d.order[0].port)
		d.addrs = d.addrs[1:]
		conn, connected, err := d.client.Dial(to, d)
		switch {
		case err != nil:
			d.last = err
		case connected:
			d.connected(conn)
			return
		default:
			d.conn = conn
			conn.SetTimer(conn.Now() + int64(d.set.timeout))
			return
		}
	}
	d.next(d.last)
}

// next gives up the broker at hand.
func (d *Dial) next(err error) {
	b := d.order[0]
	d.last = err
	if d.set.ctx.Err() == nil { // else it is we who stop
		b.failed(d.client.Now(), err)
	}
	b.Release()
	d.order = d.order[1:]
	d.broker()
}

func (d *Dial) connected(conn netloop.Conn) {
	b := d.order[0]
	b.worked()
	conn.SetTimer(0)
	conn.Handle(d.owner)
	d.answer(conn, b)
}

// Connected ends one attempt.
func (d *Dial) Connected(conn netloop.Conn, err error) {
	switch {
	case d.client == nil:
		conn.Close()
	case err != nil:
		d.last = err
		d.address()
	default:
		d.connected(conn)
	}
}

// errTimeout: the handshake took too long.
var errTimeout = errors.New("upstream: no answer within connect-timeout-ms")

// Timer ends an attempt that takes too long.
func (d *Dial) Timer(conn netloop.Conn) {
	conn.Close()
	if d.client != nil {
		d.last = errTimeout
		d.address()
	}
}

// Data is not called before the owner is the handler.
func (d *Dial) Data(netloop.Conn, []byte) []byte { return nil }

// Held needs no answer.
func (d *Dial) Held(netloop.Conn, bool) {}

// Closed is not called before the owner is the handler.
func (d *Dial) Closed(netloop.Conn, error) {}

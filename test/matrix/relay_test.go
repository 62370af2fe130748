//go:build matrix

package matrix

import (
	"io"
	"net"
	"net/url"
	"sync"
)

// relayed gives a client a way to lose its connection that has none itself: a
// relay in between.
func relayed(open func(options) (conn, ack, error)) func(options) (conn, ack, error) {
	return func(o options) (conn, ack, error) {
		u, err := url.Parse(o.URL)
		if err != nil {
			return nil, ack{}, err
		}
		r, err := newRelay(u.Host)
		if err != nil {
			return nil, ack{}, err
		}
		u.Host = r.l.Addr().String()
		o.URL = u.String()
		c, a, err := open(o)
		if err != nil {
			r.close()
			return nil, a, err
		}
		return relayedConn{c, r}, a, nil
	}
}

type relayedConn struct {
	conn
	r *relay
}

func (c relayedConn) disconnect() error {
	err := c.conn.disconnect()
	c.r.close()
	return err
}

func (c relayedConn) drop() error {
	c.r.close()
	return nil
}

// relay passes bytes on until it is closed.
type relay struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	conns []net.Conn
}

func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{l: l, to: to}
	r.wg.Go(r.serve) // ends with the listener
	return r, nil
}

func (r *relay) serve() {
	for {
		in, err := r.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, in, out)
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			r.wg.Go(func() { // ends with either connection
				io.Copy(pair[0], pair[1])
				in.Close()
				out.Close()
			})
		}
	}
}

func (r *relay) close() {
	r.l.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

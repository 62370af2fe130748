package agent

import (
	"net"
	"slices"
	"sync"
)

// The bounds of gRPC connections: of all, and of those over which no call has
// come yet. Proxies open four, or one.
const (
	maxCallers = 256
	maxSilent  = 64
)

// callers is the listener of gRPC with its connections. Of those that have
// called nothing the oldest gives way to a new one.
type callers struct {
	net.Listener

	// Guarded by mu.
	mu     sync.Mutex
	open   map[*caller]struct{}
	silent []*caller // oldest first
}

// caller is one connection of gRPC.
type caller struct {
	net.Conn
	all  *callers
	once sync.Once
}

// callerAddr is how a call finds the connection that it came over.
type callerAddr struct {
	net.Addr
	caller *caller
}

func newCallers(l net.Listener) *callers {
	return &callers{Listener: l, open: map[*caller]struct{}{}}
}

// Accept returns the next connection that there is a place for; others are
// closed.
func (l *callers) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.admit(nc); c != nil {
			return c, nil
		}
		_ = nc.Close() // refused
	}
}

func (l *callers) admit(nc net.Conn) *caller {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open)-len(l.silent) >= maxCallers {
		return nil
	}
	if len(l.silent) >= maxSilent {
		oldest := l.silent[0]
		l.silent = slices.Delete(l.silent, 0, 1)
		delete(l.open, oldest)
		_ = oldest.Conn.Close() // it has said nothing
	}
	c := &caller{Conn: nc, all: l}
	l.open[c] = struct{}{}
	l.silent = append(l.silent, c)
	return c
}

// called notes that a call has come over c.
func (c *caller) called() {
	c.once.Do(func() { c.all.heard(c) })
}

// heard takes c off the silent ones.
func (l *callers) heard(c *caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.silent, c); i >= 0 {
		l.silent = slices.Delete(l.silent, i, i+1)
	}
}

// Close ends the connection and frees its place.
func (c *caller) Close() error {
	c.called()
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// count is how many connections there are.
func (l *callers) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// RemoteAddr is the peer's address, as a callerAddr.
func (c *caller) RemoteAddr() net.Addr { return callerAddr{c.Conn.RemoteAddr(), c} }

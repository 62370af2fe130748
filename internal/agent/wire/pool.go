package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a call.
var (
	ErrTimeout = errors.New("wire: no answer in time")
	ErrClosed  = errors.New("wire: connection closed")
	ErrInUse   = errors.New("wire: another call took the correlation id")
)

// PoolOptions says how a proxy reaches its agent.
type PoolOptions struct {
	Socket     string
	Generation Generation      // V2 unless given
	Conns      int             // 4 unless given
	Timeout    time.Duration   // of a call; 1 s unless given
	Config     json.RawMessage // the agent's config block, if any
}

// Pool is a proxy's side: connections to one agent, calls distributed round
// robin. Calls may be made at once.
type Pool struct {
	// Fixed after Dial.
	opts  PoolOptions
	conns []*peer

	next atomic.Uint64
	wg   sync.WaitGroup // readers
}

// peer is one connection to the agent.
type peer struct {
	conn   net.Conn
	reader *Reader

	// Guarded by turn: in v1 a whole call, in v2 a write.
	turn sync.Mutex
	out  []byte

	// Guarded by mu.
	mu      sync.Mutex
	waiting map[string]chan Response
	closed  bool
	extra   []Type // unsolicited messages
}

// Dial opens all connections, shakes hands, and pushes the configuration if
// there is one.
func Dial(ctx context.Context, o PoolOptions) (*Pool, error) {
	if o.Generation == 0 {
		o.Generation = V2
	}
	if o.Conns == 0 {
		o.Conns = 4
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	p := &Pool{opts: o}
	for i := range o.Conns {
		if err := p.add(ctx, i); err != nil {
			p.Close()
			return nil, fmt.Errorf("connect to agent %q: %w", o.Socket, err)
		}
	}
	return p, nil
}

func (p *Pool) add(ctx context.Context, i int) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.opts.Socket)
	if err != nil {
		return err
	}
	c := &peer{conn: conn, reader: NewReader(conn, p.opts.Generation), waiting: map[string]chan Response{}}
	p.conns = append(p.conns, c)
	if p.opts.Generation == V2 {
		if err := c.handshake(p.opts); err != nil {
			return err
		}
		p.wg.Go(c.read)
	}
	if !Pushed(p.opts.Config) || p.opts.Generation == V1 && i > 0 {
		return nil
	}
	id := fmt.Sprintf("zentinel-configure-agent-%d", i)
	r, err := c.call(ctx, p.opts, id, func(dst []byte) []byte {
		return AppendConfigure(dst, p.opts.Generation, id, p.opts.Config)
	})
	if err == nil && r.Block != 0 {
		err = errors.New(r.Body)
	}
	return err
}

func (c *peer) handshake(o PoolOptions) error {
	config := o.Config
	if config == nil {
		config = json.RawMessage("null")
	}
	if err := c.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err := c.conn.Write(appendJSON(nil, V2, HandshakeRequest, Handshake{
		SupportedVersions: []uint32{2}, ProxyID: "zentinel-proxy", ProxyVersion: "0.6.54",
		Config: config, SupportedEncodings: []string{"json"},
	}))
	if err != nil {
		return err
	}
	m, err := c.reader.Next()
	if err != nil {
		return err
	}
	if m.Type != HandshakeResponse {
		return fmt.Errorf("answer to the handshake has type %#x", byte(m.Type))
	}
	var welcome Welcome
	if err := json.Unmarshal(m.Payload, &welcome); err != nil {
		return err
	}
	if !welcome.Success {
		if welcome.Error != nil {
			return errors.New(*welcome.Error)
		}
		return errors.New("handshake refused")
	}
	return c.conn.SetDeadline(time.Time{})
}

// Close closes all connections and waits for their readers.
func (p *Pool) Close() {
	for _, c := range p.conns {
		c.fail()
	}
	p.wg.Wait()
}

// Unsolicited lists the types of messages that answered nothing, in their
// order on each connection.
func (p *Pool) Unsolicited() []Type {
	var all []Type
	for _, c := range p.conns {
		c.mu.Lock()
		all = append(all, c.extra...)
		c.mu.Unlock()
	}
	return all
}

// Frame asks for the decision about a frame.
func (p *Pool) Frame(ctx context.Context, e *FrameEvent) (Response, error) {
	return p.turn().call(ctx, p.opts, e.CorrelationID, func(dst []byte) []byte {
		return e.AppendMessage(dst, p.opts.Generation)
	})
}

// Headers asks for the decision about a request.
func (p *Pool) Headers(ctx context.Context, e *HeadersEvent) (Response, error) {
	return p.turn().call(ctx, p.opts, e.CorrelationID, func(dst []byte) []byte {
		return e.AppendMessage(dst, p.opts.Generation)
	})
}

// turn is the connection whose turn it is.
func (p *Pool) turn() *peer {
	return p.conns[(p.next.Add(1)-1)%uint64(len(p.conns))]
}

func (c *peer) call(ctx context.Context, o PoolOptions, id string, event func([]byte) []byte) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if o.Generation == V1 {
		return c.exchange(ctx, event)
	}
	answer := make(chan Response, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Response{}, ErrClosed
	}
	// The waiting table has one place per id, as the proxy's: who comes later
	// takes it.
	if old := c.waiting[id]; old != nil {
		close(old)
	}
	c.waiting[id] = answer
	c.mu.Unlock()
	if err := c.write(event); err != nil {
		return Response{}, err
	}
	select {
	case r, ok := <-answer:
		if ok {
			return r, nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return Response{}, ErrClosed
		}
		return Response{}, ErrInUse
	case <-ctx.Done():
		c.mu.Lock()
		if c.waiting[id] == answer {
			delete(c.waiting, id)
		}
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return Response{}, ErrClosed
		}
		return Response{}, ErrTimeout
	}
}

func (c *peer) write(event func([]byte) []byte) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.out = event(c.out[:0])
	_, err := c.conn.Write(c.out)
	return err
}

// exchange is a call of v1: one request, one response. A call that fails ends
// the connection, because its answer could be taken for the next one's.
func (c *peer) exchange(ctx context.Context, event func([]byte) []byte) (r Response, err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	defer func() {
		if err != nil {
			c.fail()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.conn.SetDeadline(deadline); err != nil {
			return r, ErrClosed
		}
	}
	c.out = event(c.out[:0])
	if _, err := c.conn.Write(c.out); err != nil {
		return r, err
	}
	m, err := c.reader.Next()
	if err != nil {
		return r, err
	}
	if err := r.Parse(m.Payload); err != nil {
		return r, err
	}
	if r.Version != 1 {
		return r, fmt.Errorf("answer has version %d", r.Version)
	}
	return r, nil
}

// read hands answers to those who wait for them. It ends with the connection.
func (c *peer) read() {
	defer c.fail()
	for {
		m, err := c.reader.Next()
		if err != nil {
			return
		}
		if m.Type != AgentResponse {
			c.mu.Lock()
			if len(c.extra) < 64 {
				c.extra = append(c.extra, m.Type)
			}
			c.mu.Unlock()
			continue
		}
		var r Response
		if r.Parse(m.Payload) != nil {
			continue
		}
		c.mu.Lock()
		if w := c.waiting[r.CorrelationID]; w != nil {
			delete(c.waiting, r.CorrelationID)
			w <- r
		}
		c.mu.Unlock()
	}
}

// fail closes the connection; the calls that wait on it fail at once.
func (c *peer) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	_ = c.conn.Close() // nothing is left to be flushed
	for id, w := range c.waiting {
		close(w)
		delete(c.waiting, id)
	}
}

// Package upstream chooses a broker for a client and dials it.
//
// Start with [New]: a [Set] is the brokers of one configuration and what is
// known of their health. [Set.Dial] opens a connection for one client, beside
// the client's on the same loop; it tries one broker after the other.
//
// Health is passive: a dial that failed marks its broker down for a while that
// doubles from one second to half a minute; a dial that worked ends that. While
// every broker is marked down, they are tried all the same. That a broker is
// away is logged once, and once that it is back; a broker that comes and goes is
// not logged more often than every ten seconds.
package upstream

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

const (
	leastDown = time.Second
	mostDown  = 30 * time.Second
	// nameTTL is how long the addresses of a name are used without asking
	// again.
	nameTTL = 10 * time.Second
	// mostAddrs is how many addresses of a name are tried for one client.
	mostAddrs = 4
	// sayEvery is how often it is said at most that a broker is away: what
	// clients cause fills no log.
	sayEvery = 10 * time.Second
)

// Broker is one upstream. Its methods may be called at once.
type Broker struct {
	// Fixed after New.
	cfg  *config.Upstream
	host string
	port uint16
	addr []netip.Addr // when host is a literal address: that one
	seed uint64       // for client-id-hash
	log  *slog.Logger

	open  atomic.Int64
	down  atomic.Int64 // until when it is taken for down, on the engine's clock; 0: up
	fails atomic.Int64 // in a row
	said  atomic.Int64 // when it was last said that it is away, on the engine's clock; 0: never
	away  atomic.Bool  // and not yet that it is back

	// Guarded by mu.
	mu    sync.Mutex
	addrs []netip.Addr // of the name
	until time.Time
}

// Config is the broker's section of the configuration.
func (b *Broker) Config() *config.Upstream { return b.cfg }

// Down reports whether b is taken for down at a time of the engine's clock.
func (b *Broker) Down(now int64) bool { return now < b.down.Load() }

// Open is how many connections to b are open or being opened.
func (b *Broker) Open() int64 { return b.open.Load() }

// acquire takes one of the connections that b may have.
func (b *Broker) acquire() bool {
	if n := b.open.Add(1); b.cfg.MaxConnections > 0 && n > int64(b.cfg.MaxConnections) {
		b.open.Add(-1)
		return false
	}
	return true
}

// Release gives back the connection that [Owner.Dialled] got with b, once.
func (b *Broker) Release() { b.open.Add(-1) }

func (b *Broker) failed(now int64, err error) {
	n := min(b.fails.Add(1), 6)
	b.down.Store(now + int64(min(leastDown<<(n-1), mostDown)))
	if last := b.said.Load(); !b.away.Load() && (last == 0 || now-last >= int64(sayEvery)) && b.said.CompareAndSwap(last, now) {
		b.away.Store(true)
		b.log.Warn("broker is away, clients are told so or go to another", "upstream", b.cfg.URL, "error", err)
	}
}

func (b *Broker) worked() {
	if b.fails.Load() != 0 {
		b.fails.Store(0)
		b.down.Store(0)
	}
	if b.away.Load() && b.away.CompareAndSwap(true, false) {
		b.log.Info("broker is back", "upstream", b.cfg.URL)
	}
}

// resolve looks the name up, or answers from the last time.
func (b *Broker) resolve(ctx context.Context, lookup func(context.Context, string, string) ([]netip.Addr, error)) ([]netip.Addr, error) {
	b.mu.Lock()
	addrs, fresh := b.addrs, time.Now().Before(b.until)
	b.mu.Unlock()
	if fresh {
		return addrs, nil
	}
	addrs, err := lookup(ctx, "ip", b.host)
	if err != nil {
		return nil, err
	}
	if len(addrs) > mostAddrs {
		addrs = addrs[:mostAddrs]
	}
	b.mu.Lock()
	b.addrs, b.until = addrs, time.Now().Add(nameTTL)
	b.mu.Unlock()
	return addrs, nil
}

// Set is the brokers of one configuration. Its methods may be called at once.
type Set struct {
	// Fixed after New.
	brokers []*Broker
	balance string
	timeout time.Duration
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	ctx     context.Context // ends with Close
	stop    context.CancelFunc

	turn    atomic.Uint32 // of round-robin
	running sync.WaitGroup
}

// New makes the set of cfg's upstreams. It opens nothing. log is told of brokers
// that are away or back; nil: nobody is.
func New(cfg *config.Gateway, log *slog.Logger) (*Set, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Set{
		balance: cfg.Balance, timeout: time.Duration(cfg.ConnectTimeoutMS) * time.Millisecond,
		lookup: net.DefaultResolver.LookupNetIP,
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if s.timeout <= 0 {
		s.timeout = 5 * time.Second
	}
	for i := range cfg.Upstreams {
		b, err := newBroker(&cfg.Upstreams[i])
		if err != nil {
			return nil, fmt.Errorf("gateway.upstreams[%d]: %w", i, err)
		}
		b.log = log
		s.brokers = append(s.brokers, b)
	}
	return s, nil
}

func newBroker(u *config.Upstream) (*Broker, error) {
	scheme, hostport, err := config.ParseUpstreamURL(u.URL)
	switch {
	case err != nil:
		return nil, err
	case scheme != "mqtt":
		return nil, fmt.Errorf("%s:// is not supported by this version", scheme)
	case u.ProxyProtocol == "v1" || u.ProxyProtocol == "v2":
		return nil, fmt.Errorf("proxy-protocol %s is not supported by this version", u.ProxyProtocol)
	}
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	b := &Broker{cfg: u, host: host, port: uint16(n), seed: hash(0, u.URL)}
	if a, err := netip.ParseAddr(host); err == nil {
		b.addr = []netip.Addr{a}
	}
	return b, nil
}

// Close ends the name look-ups and waits for them; dials answer that there is
// no broker. Idempotent.
func (s *Set) Close() {
	s.stop()
	s.running.Wait()
}

// Brokers are the brokers in the order of the configuration.
func (s *Set) Brokers() []*Broker { return s.brokers }

// order is which brokers to try for a client, best first. It is not to be
// changed.
func (s *Set) order(clientID string, now int64) []*Broker {
	list := s.brokers
	if len(list) < 2 {
		return list
	}
	switch s.balance {
	case "round-robin":
		k := int(s.turn.Add(1)-1) % len(list)
		list = slices.Concat(list[k:], list[:k])
	case "client-id-hash":
		list = slices.Clone(list)
		// Highest random weight: when a broker comes or goes, only its own
		// clients move.
		slices.SortStableFunc(list, func(a, b *Broker) int {
			return cmp.Compare(hash(b.seed, clientID), hash(a.seed, clientID))
		})
	}
	down := func(b *Broker) bool { return b.Down(now) }
	if !slices.ContainsFunc(list, down) {
		return list
	}
	if up := slices.DeleteFunc(slices.Clone(list), down); len(up) > 0 {
		return up
	}
	return list
}

// hash is FNV-1a, finished so that similar strings differ in high bits too. It
// is the same in every process: gateways side by side agree.
func hash(seed uint64, s string) uint64 {
	h := seed ^ 14695981039346656037
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}

// Package admin is the HTTP server for operators: /metrics for Prometheus,
// /healthz and /readyz.
//
// It answers GET only and reads no body. It is off unless admin.address is
// given. Every request needs the token where there is one, and a Host that is an
// address, localhost, or in admin.allowed-hosts: a web page of somebody else's
// cannot ask it by a name of its own.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/health"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/metrics"
)

// The bounds of connections and of what a request may take.
const (
	maxConns   = 64
	maxHeader  = 16 << 10
	headerTime = 5 * time.Second
	answerTime = 10 * time.Second
	idleTime   = time.Minute
)

// Source is what the server tells. It is asked at every request, by several
// goroutines.
type Source interface {
	Health() (health.State, []string)
	Metrics() []metrics.Sample
}

// Server is the admin server.
type Server struct {
	// Fixed after New.
	source  Source
	log     *slog.Logger
	address string
	limits  string
	server  *http.Server

	cfg atomic.Pointer[config.Admin]

	// Owned by Start and Stop.
	listener net.Listener
	work     sync.WaitGroup
}

// New opens nothing. limits is the page that says what cannot be enforced here,
// "" for none.
func New(cfg config.Admin, source Source, limits string, log *slog.Logger) *Server {
	s := &Server{source: source, log: log, address: cfg.Address, limits: limits}
	s.cfg.Store(&cfg)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	s.server = &http.Server{
		Handler: s.guard(mux), ReadHeaderTimeout: headerTime, ReadTimeout: headerTime, WriteTimeout: answerTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Start listens and serves until Stop.
func (s *Server) Start() error {
	l, err := net.Listen(config.ListenNetwork(s.address), s.address)
	if err != nil {
		return err
	}
	s.listener = l
	s.work.Go(func() {
		if err := s.server.Serve(&bounded{Listener: l}); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the admin server ended", "error", err)
		}
	})
	s.log.Info("admin server open", "address", l.Addr().String())
	return nil
}

// Addr is the real address. Valid after Start.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Reload puts another token and other hosts in force; the address stays.
func (s *Server) Reload(cfg config.Admin) { s.cfg.Store(&cfg) }

// Stop finishes requests and closes the server, at the latest when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	s.work.Wait()
	return err
}

// guard refuses who may not ask.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cfg := s.cfg.Load()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		switch {
		case !hosted(r.Host, cfg.AllowedHosts):
			http.Error(w, "call this server by its address, or add the name to admin.allowed-hosts", http.StatusMisdirectedRequest)
		case cfg.Token != "" && !authorized(r.Header.Get("Authorization"), string(cfg.Token)):
			h.Set("WWW-Authenticate", "Bearer")
			http.Error(w, "send the token of admin.token as Authorization: Bearer", http.StatusUnauthorized)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hosted reports whether a Host is one that only an operator uses.
func hosted(host string, allowed []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, host) })
}

// authorized compares in constant time, also over the length.
func authorized(header, token string) bool {
	scheme, given, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	state, reasons := s.source.Health()
	all := append(s.source.Metrics(), metrics.Of(metrics.Health, int(state)))
	for _, r := range reasons {
		all = append(all, metrics.Of(metrics.HealthReason, 1, "reason", r))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(metrics.AppendText(nil, all)) // the peer is gone
}

// healthz says how we are: it is served, so we live.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { s.health(w, false) }

// readyz says whether new clients may be sent here: not while draining.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) { s.health(w, true) }

func (s *Server) health(w http.ResponseWriter, ready bool) {
	state, reasons := s.source.Health()
	if reasons == nil {
		reasons = []string{}
	}
	b, err := json.Marshal(struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons"`
		Limits  string   `json:"limits,omitempty"`
	}{state.String(), reasons, s.limits})
	if err != nil {
		panic(err) // only strings
	}
	w.Header().Set("Content-Type", "application/json")
	if ready && state == health.Draining {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write(append(b, '\n')) // the peer is gone
}

// bounded is a listener with at most maxConns connections; others are closed.
type bounded struct {
	net.Listener
	open atomic.Int64
}

type boundedConn struct {
	net.Conn
	done func()
}

// Accept returns the next connection that there is a place for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= maxConns {
			return &boundedConn{c, sync.OnceFunc(func() { b.open.Add(-1) })}, nil
		}
		b.open.Add(-1)
		_ = c.Close() // refused
	}
}

// Close frees the place.
func (c *boundedConn) Close() error {
	c.done()
	return c.Conn.Close()
}

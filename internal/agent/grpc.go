package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv2"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// The bounds of gRPC beside those of connections. A proxy has one stream a
// connection with v2, and a call for each event in work with v1.
const (
	maxCalls     = 512  // at once, over one connection
	maxStreams   = 1024 // at once, over all
	maxHeaders   = 64 << 10
	silentTime   = 5 * time.Minute // without a call a connection ends
	pingTime     = 30 * time.Second
	pongTime     = 10 * time.Second
	leastPinging = time.Second // of a peer
)

// The packages were renamed when the proxy was: older ones call the older
// names. The messages are the same.
const (
	serviceV1 = "sentinel.agent.v1.AgentProcessor"
	serviceV2 = "sentinel.agent.v2.AgentServiceV2"
)

// rpc is the agent door over gRPC, both generations on one port. It decides by
// the same table and sessions as the socket.
type rpc struct {
	// Fixed after listenRPC.
	agent    *Agent
	server   *grpc.Server
	callers  *callers
	secure   bool          // TLS
	local    bool          // on a loopback address
	stopping chan struct{} // closed when the agent stops

	scratch sync.Pool    // of *conn, for calls
	busy    atomic.Int64 // streams

	// Guarded by mu.
	mu      sync.Mutex
	streams map[*processStream]struct{} // of v2, shaken hands
}

// listenRPC opens the port.
func (a *Agent) listenRPC(address string) (*rpc, error) {
	l, err := net.Listen(config.ListenNetwork(address), address)
	if err != nil {
		return nil, err
	}
	g := &rpc{agent: a, callers: newCallers(l), stopping: make(chan struct{}), streams: map[*processStream]struct{}{}}
	g.scratch.New = func() any { return a.decider() }
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		g.local = tcp.IP.IsLoopback()
	}
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(wire.MaxV2),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: silentTime, Time: pingTime, Timeout: pongTime}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPinging, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(g.guardCall),
		grpc.StreamInterceptor(g.guardStream),
		grpc.WaitForHandlers(true),
	}
	if a.settings.Load().tls != nil {
		g.secure = true
		opts = append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return a.settings.Load().tls, nil
			},
		})))
	}
	g.server = grpc.NewServer(opts...)
	v1, v2 := agentv1.AgentProcessor_ServiceDesc, agentv2.AgentServiceV2_ServiceDesc
	g.server.RegisterService(&v1, processor{rpc: g})
	g.server.RegisterService(&v2, serviceV2Server{rpc: g})
	v1.ServiceName, v2.ServiceName = serviceV1, serviceV2
	older1, older2 := v1, v2
	g.server.RegisterService(&older1, processor{rpc: g})
	g.server.RegisterService(&older2, serviceV2Server{rpc: g})
	return g, nil
}

// serve takes calls until stop.
func (g *rpc) serve() {
	if err := g.server.Serve(g.callers); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		g.agent.log.Error("gRPC ended", "error", err)
	}
}

// stop finishes what is in work and closes all connections, at the latest when
// ctx ends.
func (g *rpc) stop(ctx context.Context) error {
	close(g.stopping)
	done := make(chan struct{})
	go func() { defer close(done); g.server.GracefulStop() }() // ends at the latest with Stop
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		g.server.Stop()
		<-done
		return ctx.Err()
	}
}

// announce says what an operator has to know about gRPC.
func (g *rpc) announce(log *slog.Logger) {
	log.Info("agent door open", "grpc", g.callers.Addr().String(), "tls", g.secure)
	log.Warn("gRPC v2 carries no decision about WebSocket frames, so nothing of them can be enforced with it: "+
		"let the proxy use the socket, or gRPC v1", "limits", Limits)
	set := g.agent.settings.Load()
	if !g.local && (set.tls == nil || set.tls.ClientAuth != tls.RequireAndVerifyClientCert) {
		log.Warn("gRPC is open to other machines without client certificates: whoever reaches it gets decisions made; set agent.grpc-tls.client-ca-file")
	}
}

// guardCall has a fault of ours end this call and nothing else.
func (g *rpc) guardCall(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	defer g.recovered(&err)
	callerOf(ctx).called()
	return next(ctx, in)
}

// guardStream is guardCall for streams, of which there is a bound.
func (g *rpc) guardStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer g.recovered(&err)
	callerOf(ss.Context()).called()
	if g.busy.Add(1) > maxStreams {
		g.busy.Add(-1)
		return status.Error(codes.ResourceExhausted, "too many streams")
	}
	defer g.busy.Add(-1)
	return next(srv, ss)
}

func (g *rpc) recovered(err *error) {
	if r := recover(); r != nil {
		g.agent.log.Error("gRPC call failed", "panic", r, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "internal error")
	}
}

// callerOf is the connection a call came over.
func callerOf(ctx context.Context) *caller {
	p, _ := peer.FromContext(ctx)
	return p.Addr.(callerAddr).caller // every connection is of callers
}

// until runs f and returns what it does, or nil as soon as the agent stops. A
// call of f on the stream ends when its handler has returned.
func (g *rpc) until(f func() error) error {
	done := make(chan error, 1)
	g.agent.checks.Go(func() {
		var err error
		defer func() { done <- err }()
		defer g.recovered(&err)
		err = f()
	})
	select {
	case err := <-done:
		return err
	case <-g.stopping:
		return nil
	}
}

var errPushRPC = errors.New("agent.accept-config does not take a configuration over gRPC: " +
	"it takes \"grpc\" there, and a loopback address or client certificates; " +
	"or remove the config block of the agent from the proxy's configuration")

// push applies a configuration that came over gRPC, if it may.
func (g *rpc) push(ctx context.Context, raw json.RawMessage) error {
	a := g.agent
	if !wire.Pushed(raw) {
		return nil
	}
	if !g.pushes(ctx) {
		a.pushed(errPushRPC)
		return errPushRPC
	}
	return a.push(raw)
}

// pushes reports whether a configuration of the peer's is taken.
func (g *rpc) pushes(ctx context.Context) bool {
	return g.agent.settings.Load().cfg.Agent.AcceptConfig == "grpc" && (g.local || certified(ctx))
}

// certified reports whether the peer has shown a certificate of client-ca-file.
func certified(ctx context.Context) bool {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return ok && len(info.State.VerifiedChains) > 0
}

// loadTLS reads agent.grpc-tls; nil: plain text.
func loadTLS(c *config.GRPCTLS) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("agent.grpc-tls: certificate %q with key %q: %w", c.CertFile, c.KeyFile, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	if c.ClientCAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("agent.grpc-tls.client-ca-file: %w", err)
	}
	out.ClientCAs = x509.NewCertPool()
	if !out.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("agent.grpc-tls.client-ca-file %q: no certificate in it", c.ClientCAFile)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	return out, nil
}

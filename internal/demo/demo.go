// Package demo shows the product at work with nothing installed: an embedded
// broker, both doors in front of it, sample devices of which some misbehave,
// and every decision as it is made.
package demo

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	brokerauth "github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/app"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/audit"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Options says where the demo prints.
type Options struct {
	Out     io.Writer
	Color   bool
	Version string
	Log     *slog.Logger // problems only
}

// The addresses that are tried first, so that the printed lines look the same
// on every machine; a busy one gives way to a free port.
const (
	wantTCP   = "127.0.0.1:21883"
	wantWS    = "127.0.0.1:28083"
	wantProxy = "127.0.0.1:28080"
)

//go:embed demo.json
var configuration []byte

// people are the sample users; their passwords are no secret.
var people = []struct{ name, password, group string }{
	{"kitchen", "demo-kitchen", "sensors"},
	{"garage", "demo-garage", "sensors"},
	{"attic", "demo-attic", "sensors"},
	{"olga", "demo-olga", "operators"},
}

// Run runs the demo until ctx ends, or Out takes no more, and takes everything
// down again.
func Run(ctx context.Context, o Options) (err error) {
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	dir, err := os.MkdirTemp("", "mqtt-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeUsers(filepath.Join(dir, "users.json")); err != nil {
		return err
	}
	brokerAddr, stopBroker, err := startBroker()
	if err != nil {
		return err
	}
	defer stopBroker()

	env := map[string]string{
		"DEMO_TCP": free(wantTCP), "DEMO_WS": free(wantWS), "DEMO_BROKER": brokerAddr,
		"DEMO_AUDIT": filepath.Join(dir, "audit.jsonl"),
	}
	socket := filepath.Join(dir, "agent.sock")
	a, err := app.New(app.Options{
		Load: func() (*config.Config, error) {
			cfg, _, err := config.Parse("demo.json", dir, configuration, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
			return cfg, err
		},
		Socket: socket, Gateway: true, Version: o.Version, Log: o.Log,
		DrainTimeout: 3 * time.Second, DrainRate: 1000,
	})
	if err != nil {
		return err
	}
	p := &printer{out: o.Out, color: o.Color, gone: gone}
	cancel := a.Audit().Subscribe(p.event)
	defer cancel()
	defer p.goodbye()
	return a.Run(ctx, nil, func() {
		proxy, err := startProxy(ctx, free(wantProxy), socket, brokerAddr)
		if err != nil {
			o.Log.Error("the built-in proxy does not start", "error", err)
			return
		}
		at := places{tcp: "tcp://" + a.Addrs()[0].String(), ws: "ws://" + a.Addrs()[1].String() + "/mqtt", proxy: "ws://" + proxy + "/mqtt"}
		p.intro(at, socket)
		var cast sync.WaitGroup
		for _, act := range acts {
			cast.Go(func() { act(ctx, at) })
		}
		context.AfterFunc(ctx, p.stop)
	})
}

// writeUsers writes the users file with cheap hashes: this is a demo, and its
// devices come and go.
func writeUsers(path string) error {
	type user struct {
		Hash   string   `json:"password_hash"`
		Groups []string `json:"groups"`
	}
	users := map[string]user{}
	for _, p := range people {
		hash, err := auth.HashPassword([]byte(p.password), 6)
		if err != nil {
			return err
		}
		users[p.name] = user{hash, []string{p.group}}
	}
	text, err := json.MarshalIndent(map[string]any{"users": users}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// startBroker starts the embedded broker on a free loopback port.
func startBroker() (addr string, stop func(), err error) {
	b := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := b.AddHook(new(brokerauth.AllowHook), nil); err != nil {
		return "", nil, err
	}
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := b.AddListener(l); err != nil {
		return "", nil, err
	}
	if err := b.Serve(); err != nil {
		return "", nil, err
	}
	return l.Address(), func() { _ = b.Close() }, nil // nobody is left to tell
}

// free returns want, or any free port of loopback when it is taken.
func free(want string) string {
	l, err := net.Listen("tcp", want)
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close() //nolint:errcheck // only probed
	return want
}

// places are where the doors are.
type places struct{ tcp, ws, proxy string }

// printer prints decisions as they come.
type printer struct {
	out   io.Writer
	color bool
	gone  func() // ends the demo

	// Guarded by mu.
	mu   sync.Mutex
	line []byte
	held []audit.Event // decisions before the intro
	open bool
	over bool
}

func (p *printer) event(e *audit.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over, dull(e):
	case !p.open:
		p.held = append(p.held, *e)
	default:
		p.print(e)
	}
}

// print writes one line; the caller holds mu.
func (p *printer) print(e *audit.Event) {
	p.line = append(audit.AppendText(p.line[:0], e, p.color), '\n')
	p.write(p.line)
}

// write ends the demo when nobody reads any more: a closed pipe or terminal.
func (p *printer) write(b []byte) {
	if _, err := p.out.Write(b); err != nil {
		p.over = true
		p.gone()
	}
}

// dull reports what only fills the screen: acknowledgements and goodbyes.
func dull(e *audit.Event) bool {
	if e.Event != "mqtt,allowed" {
		return e.Event == "mqtt,disconnect"
	}
	switch e.Packet {
	case "PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE":
		return false
	}
	return true
}

// stop ends the printing: what follows is the demo's own teardown.
func (p *printer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// goodbye is the last line.
func (p *printer) goodbye() {
	p.stop()
	if p.open {
		_, _ = fmt.Fprintln(p.out, "\nStopped. The configuration behind it is internal/demo/demo.json; go on with docs/README.md.")
	}
}

func (p *printer) intro(at places, socket string) {
	_, tcp, _ := net.SplitHostPort(at.tcp[len("tcp://"):])
	text := fmt.Sprintf(`MQTT gateway demo: an embedded broker, two doors in front of it, four users, some of whom misbehave.

  gateway door   %s   %s
  agent door     %s   (a small built-in proxy asks the agent on %s)

Try it from another terminal:
  mosquitto_sub -h 127.0.0.1 -p %[5]s -i olga-1 -u olga -P demo-olga -t 'sensors/#' -v
  mosquitto_pub -h 127.0.0.1 -p %[5]s -i kitchen-9 -u kitchen -P demo-kitchen -t sensors/kitchen/data -m 21.5
  mosquitto_pub -h 127.0.0.1 -p %[5]s -i kitchen-9 -u kitchen -P demo-kitchen -V 5 -q 1 -t sensors/garage/data -m 99   # denied
  mosquitto_pub -h 127.0.0.1 -p %[5]s -i kitchen-9 -u kitchen -P wrong -t sensors/kitchen/data -m 1                    # refused

Every decision, live (Ctrl-C ends it):
`, at.tcp, at.ws, at.proxy, socket, tcp)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = true
	p.write([]byte(text))
	for i := range p.held {
		p.print(&p.held[i])
	}
	p.held = nil
}

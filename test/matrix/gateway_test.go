//go:build matrix

package matrix

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// program is the one under test, built once.
var program string

// gateway is the program running in front of a broker.
type gateway struct {
	proc    *testkit.Process
	conf    string
	audit   string // file of events
	tcp, ws string
	port    int
}

// gatewayConfig is what differs between gateways.
type gatewayConfig struct {
	upstream string // tcp://host:port
	general  string // further keys of the section, as JSON
	// port and wsPort are 0 for any.
	port, wsPort int
}

// writeGateway writes a configuration under which everything below m/ is
// allowed by a rule, and what a bridge of Mosquitto says about itself.
func writeGateway(dir string, c gatewayConfig) (*gateway, error) {
	if c.port == 0 {
		c.port = freePort()
	}
	if c.wsPort == 0 {
		c.wsPort = freePort()
	}
	g := &gateway{audit: filepath.Join(dir, "audit.jsonl"), tcp: tcpURL(c.port), ws: wsURL(c.wsPort), port: c.port}
	var err error
	g.conf, err = file(dir, "gateway.json", fmt.Sprintf(`{
  "general": {"connect-timeout-secs": 60%s},
  "acl": {
    "default-action": "deny",
    "rules": [
      {"name": "secrets", "topics": ["m/secret/#"], "decision": "deny", "priority": 10},
      {"name": "matrix", "topics": ["m/#"], "decision": "allow"},
      {"name": "bridges", "topics": ["$SYS/broker/connection/+/state"], "actions": ["publish"], "decision": "allow"}
    ]
  },
  "gateway": {
    "listeners": [
      {"name": "tcp", "address": %q},
      {"name": "ws", "address": %q}
    ],
    "upstreams": [{"url": %q}]
  },
  "audit": {"output": %q, "include": "all"}
}
`, c.general, g.tcp, g.ws, strings.Replace(c.upstream, "tcp:", "mqtt:", 1), g.audit))
	return g, err
}

// launch starts it and does not wait.
func (g *gateway) launch() (err error) {
	g.proc, err = testkit.Launch(exec.Command(program, "gateway", "--config", g.conf))
	return err
}

// start starts it and waits until it accepts; version is one that the broker
// has.
func (g *gateway) start(version string) error {
	if err := g.launch(); err != nil {
		return err
	}
	for _, url := range []string{g.tcp, g.ws} {
		var last error
		err := testkit.Poll("CONNACK of the gateway on "+url, patience, func() bool {
			last = connack(url, version)
			return last == nil || g.proc.Ended() != nil
		})
		if ended := g.proc.Ended(); ended != nil {
			return ended
		}
		if err != nil {
			g.proc.Stop()
			return fmt.Errorf("%w: %w\n%s", err, last, g.proc.Tail(40))
		}
	}
	return nil
}

func startGateway(dir, version string, c gatewayConfig) (*gateway, error) {
	g, err := writeGateway(dir, c)
	if err != nil {
		return nil, err
	}
	return g, g.start(version)
}

// stop ends it and says if it did not end well.
func (g *gateway) stop() error {
	if err := g.proc.Ended(); err != nil {
		return err
	}
	g.proc.Stop()
	if g.proc.Code != 0 {
		return fmt.Errorf("the gateway ended with %d:\n%s", g.proc.Code, g.proc.Tail(40))
	}
	return nil
}

// url is its door for a transport.
func (g *gateway) url(scheme string) string {
	return map[string]string{"tcp": g.tcp, "ws": g.ws}[scheme]
}

// events are those of one client, for the log alone.
func (g *gateway) events(client string) string {
	text, err := os.ReadFile(g.audit)
	if err != nil {
		return err.Error()
	}
	var of strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, client) {
			of.WriteString(line)
		}
	}
	return testkit.Tail(of.String(), 20)
}

// since measures for the log alone.
func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

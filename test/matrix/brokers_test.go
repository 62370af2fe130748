//go:build matrix

package matrix

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// broker is one that can be started.
type broker struct {
	name  string
	start func(b *broker, dir string) (*running, error)
	// all: every client is tried in a short run too, not one of each language.
	all bool
	// remark is what befalls it now and then in any case: one that ends wrong
	// is played again, up to three times.
	remark string
}

// running is a broker with the doors that it has.
type running struct {
	*broker
	stop  func()
	proc  *testkit.Process  // nil in this process
	doors map[string]string // "tcp 3.1.1" and the like: URL
}

// url is the door for a transport and version, "" if there is none.
func (r *running) url(scheme, version string) string { return r.doors[scheme+" "+version] }

var brokers = []*broker{
	{name: "Mosquitto 2.0.11", start: startMosquitto, all: true},
	{name: "HiveMQ CE 2025.5", start: startHive},
	{name: "Mochi 2.7.9", start: startMochi},
	{
		name: "rumqttd 0.20.0", start: startRumqttd,
		remark: "now and then closes a new connection at once",
	},
	{name: "aedes 1.2.0", start: startAedes},
}

func brokerNamed(prefix string) *broker {
	for _, b := range brokers {
		if strings.HasPrefix(b.name, prefix) {
			return b
		}
	}
	panic("no broker " + prefix)
}

func tcpURL(port int) string { return fmt.Sprintf("tcp://127.0.0.1:%d", port) }

func wsURL(port int) string { return fmt.Sprintf("ws://127.0.0.1:%d/mqtt", port) }

// doors are those of a broker with both versions on one port each.
func doors(tcp, ws int) map[string]string {
	return map[string]string{"tcp 3.1.1": tcpURL(tcp), "tcp 5.0": tcpURL(tcp), "ws 3.1.1": wsURL(ws), "ws 5.0": wsURL(ws)}
}

// ready waits for a CONNACK on every door.
func (r *running) ready(limit time.Duration) (*running, error) {
	for door, url := range r.doors {
		_, version, _ := strings.Cut(door, " ")
		err := testkit.Poll("CONNACK of "+r.name+" on "+url, limit, func() bool {
			return r.proc != nil && r.proc.Ended() != nil || connack(url, version) == nil
		})
		if r.proc != nil {
			err = errors.Join(err, r.proc.Ended())
		}
		if err != nil {
			r.stop()
			if r.proc != nil {
				err = fmt.Errorf("%w\n%s", err, r.proc.Tail(40))
			}
			return nil, err
		}
	}
	return r, nil
}

// connack asks for a CONNACK that accepts.
func connack(url, version string) error {
	open := openPahoGo3
	if version == "5.0" {
		open = openPahoGo5
	}
	c, a, err := open(options{URL: url, Version: version, ID: unique("ready"), Clean: true})
	if err != nil {
		return err
	}
	if a.Code != 0 {
		return fmt.Errorf("refused with %#x", a.Code)
	}
	return c.disconnect()
}

// process starts a broker that is a program.
func (b *broker) process(dir string, limit time.Duration, doors map[string]string, argv ...string) (*running, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	p, err := testkit.Launch(cmd)
	if err != nil {
		return nil, err
	}
	return (&running{broker: b, proc: p, stop: p.Stop, doors: doors}).ready(limit)
}

// file writes one of a broker's.
func file(dir, name, text string) (path string, err error) {
	path = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func startMosquitto(b *broker, dir string) (*running, error) {
	return mosquittoWith(b, dir, freePort(), "max_inflight_messages 100")
}

// mosquittoWith is Mosquitto with further lines of configuration.
func mosquittoWith(b *broker, dir string, port int, more string) (*running, error) {
	ws := freePort()
	// A burst of QoS 2 is larger than the twenty that may be in flight by
	// default. A WebSocket listener of 2.0 is bound to every address whatever
	// it says: hence bind_interface.
	conf, err := file(dir, "mosquitto.conf", fmt.Sprintf(`allow_anonymous true
user root
log_dest stderr
log_type all
%s
listener %d 127.0.0.1
listener %d 127.0.0.1
protocol websockets
bind_interface lo
`, more, port, ws))
	if err != nil {
		return nil, err
	}
	return b.process(dir, patience, doors(port, ws), "mosquitto", "-c", conf)
}

func startHive(b *broker, dir string) (*running, error) {
	tcp, ws := freePort(), freePort()
	// Paho Python and MQTT.js do not count what is unacknowledged: the figure
	// of ten that is this broker's default would be theirs to exceed.
	_, err := file(dir, "conf/config.xml", fmt.Sprintf(`<hivemq>
  <listeners>
    <tcp-listener><port>%d</port><bind-address>127.0.0.1</bind-address></tcp-listener>
    <websocket-listener>
      <port>%d</port><bind-address>127.0.0.1</bind-address><path>/mqtt</path>
      <subprotocols><subprotocol>mqtt</subprotocol><subprotocol>mqttv3.1</subprotocol></subprotocols>
    </websocket-listener>
  </listeners>
  <mqtt><receive-maximum><server-receive-maximum>100</server-receive-maximum></receive-maximum></mqtt>
  <persistence><mode>in-memory</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
`, tcp, ws))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"data", "extensions"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	source, err := filepath.Abs("parts/Hive.java")
	if err != nil {
		return nil, err
	}
	return b.process(dir, slow, doors(tcp, ws), "java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", parts.java, source, dir)
}

func startMochi(b *broker, _ string) (*running, error) {
	tcp, ws := freePort(), freePort()
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	err := errors.Join(
		s.AddHook(new(auth.AllowHook), nil),
		s.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", tcp)})),
		s.AddListener(listeners.NewWebsocket(listeners.Config{ID: "ws", Address: fmt.Sprintf("127.0.0.1:%d", ws)})),
	)
	if err != nil {
		return nil, err
	}
	if err := s.Serve(); err != nil { // it returns
		return nil, err
	}
	return (&running{broker: b, stop: func() { _ = s.Close() }, doors: doors(tcp, ws)}).ready(patience)
}

// rumqttd has a port for each version, and WebSocket for 3.1.1 alone.
func startRumqttd(b *broker, dir string) (*running, error) {
	v4, v5, ws := freePort(), freePort(), freePort()
	text := `id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
`
	for _, l := range []struct {
		block string
		port  int
	}{{"v4", v4}, {"v5", v5}, {"ws", ws}} {
		text += fmt.Sprintf(`[%[1]s.1]
name = "%[1]s-1"
listen = "127.0.0.1:%[2]d"
next_connection_delay_ms = 1
[%[1]s.1.connections]
connection_timeout_ms = 10000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
`, l.block, l.port)
	}
	conf, err := file(dir, "rumqttd.toml", text)
	if err != nil {
		return nil, err
	}
	return b.process(dir, patience, map[string]string{
		"tcp 3.1.1": tcpURL(v4), "tcp 5.0": tcpURL(v5), "ws 3.1.1": wsURL(ws),
	}, parts.python, "-m", "iotcore", "--config", conf)
}

// aedes has 3.1.1 alone.
func startAedes(b *broker, dir string) (*running, error) {
	tcp, ws := freePort(), freePort()
	source, err := os.ReadFile("parts/aedes.mjs")
	if err != nil {
		return nil, err
	}
	// A module finds others beside itself only.
	if _, err := file(dir, "aedes.mjs", string(source)); err != nil {
		return nil, err
	}
	if err := os.Symlink(parts.node, filepath.Join(dir, "node_modules")); err != nil {
		return nil, err
	}
	return b.process(dir, patience, map[string]string{"tcp 3.1.1": tcpURL(tcp), "ws 3.1.1": wsURL(ws)},
		"node", filepath.Join(dir, "aedes.mjs"), fmt.Sprint(tcp), fmt.Sprint(ws))
}

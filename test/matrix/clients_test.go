//go:build matrix

package matrix

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// client is a real client library or program.
type client struct {
	name     string
	language string
	versions []string
	schemes  []string
	// skip names the scripts that it has no means for.
	skip []string
	// mute is set if it does not tell the granted QoS.
	mute bool
	open func(options) (conn, ack, error)
	// representative: it stands for its language before brokers other than
	// Mosquitto in a short run.
	representative bool
}

// options are what a CONNECT says.
type options struct {
	URL     string   `json:"url"`
	Version string   `json:"version"`
	ID      string   `json:"id"`
	Clean   bool     `json:"clean"`
	Expiry  uint32   `json:"expiry"` // seconds; 5.0
	Will    *message `json:"will,omitempty"`
	// Reconnect: a lost connection is opened again, with its session.
	Reconnect bool `json:"reconnect,omitempty"`
}

// ack is what a CONNACK says.
type ack struct {
	Code    int  `json:"code"`
	Present bool `json:"present"`
}

// message is a PUBLISH: of the properties, those that pass from end to end.
type message struct {
	Topic   string `json:"topic"`
	Payload string `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain"`

	ContentType   string      `json:"content_type,omitempty"`
	ResponseTopic string      `json:"response_topic,omitempty"`
	Correlation   string      `json:"correlation,omitempty"`
	Format        int         `json:"format,omitempty"`
	User          [][2]string `json:"user,omitempty"`
}

// String has the payload shortened and the user properties by name, in the
// order that they have within a name: some clients keep them in a map.
func (m message) String() string {
	payload := m.Payload
	if len(payload) > 64 {
		payload = fmt.Sprintf("%.16s… (%d bytes)", payload, len(payload))
	}
	s := fmt.Sprintf("%s: %s, QoS %d", m.Topic, payload, m.QoS)
	if m.Retain {
		s += ", retained"
	}
	if m.ContentType+m.ResponseTopic+m.Correlation != "" || m.Format != 0 || m.User != nil {
		user := slices.Clone(m.User)
		slices.SortStableFunc(user, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
		s += fmt.Sprintf(", content type %s, response topic %s, correlation %s, format %d, user %v", m.ContentType, m.ResponseTopic, m.Correlation, m.Format, user)
	}
	return s
}

// conn is a connection of a client that was admitted, or not: a refused one has
// nothing but its ack.
type conn interface {
	subscribe(qos byte, filters ...string) (granted []int, err error)
	// publish returns when all are acknowledged, those of QoS 0 written.
	publish(...message) error
	// receive waits until count messages have come since the connection was
	// opened and returns all that have come, fewer when patience is used up
	// or the connection is lost.
	receive(count int) ([]message, error)
	// disconnect ends the connection with DISCONNECT, drop without.
	disconnect() error
	drop() error
}

var (
	both     = []string{"3.1.1", "5.0"}
	tcpAndWS = []string{"tcp", "ws"}
)

// clients are all. Of the workers one process serves the whole run.
var clients = []*client{
	{
		name: "mosquitto_pub/sub 2.0.11", language: "C", versions: both, schemes: []string{"tcp"}, representative: true,
		open: openMosquitto,
	},
	{
		name: "Paho C 1.3.12", language: "C", versions: both, schemes: tcpAndWS, mute: true,
		skip: []string{"session", "properties"}, open: openPahoC,
	},
	{
		name: "Paho Python 2.2.0", language: "Python", versions: both, schemes: tcpAndWS, representative: true,
		open: worker("python", "paho_worker.py"),
	},
	{
		name: "gmqtt 0.8.0", language: "Python", versions: both, schemes: []string{"tcp"},
		open: worker("python", "gmqtt_worker.py"),
	},
	{
		name: "MQTT.js 5.16.0", language: "JavaScript", versions: both, schemes: tcpAndWS, representative: true,
		open: worker("node", "mqttjs_worker.js"),
	},
	{
		name: "Paho Go v3 1.5.1", language: "Go", versions: []string{"3.1.1"}, schemes: tcpAndWS, representative: true,
		open: openPahoGo3,
	},
	{
		name: "Paho Go v5 0.23.0", language: "Go", versions: []string{"5.0"}, schemes: tcpAndWS, representative: true,
		open: openPahoGo5,
	},
	{
		name: "HiveMQ client 1.4.2", language: "Java", versions: both, schemes: tcpAndWS, representative: true,
		open: relayed(worker("java", "HiveWorker.java")),
	},
}

func clientNamed(prefix string) *client {
	for _, c := range clients {
		if strings.HasPrefix(c.name, prefix) {
			return c
		}
	}
	panic("no client " + prefix)
}

func worker(language, file string) func(options) (conn, ack, error) {
	w := &workerProcess{language: language, file: filepath.Join("clients", file)}
	workers = append(workers, w)
	return w.open
}

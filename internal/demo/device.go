package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// device is a small MQTT client: what a sensor's firmware would hold. It is not
// safe for several goroutines.
type device struct {
	version  mqtt.Version
	clientID string
	username string
	password string
	will     *mqtt.Will

	conn   net.Conn
	r      *bufio.Reader
	nextID uint16
	buf    []byte
}

// ioTimeout bounds every wait of a device.
const ioTimeout = 5 * time.Second

// dial connects to url (tcp://host:port or ws://host:port/path) and sends
// CONNECT. It returns the code of the CONNACK.
func (d *device) dial(ctx context.Context, url string) (mqtt.ReasonCode, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	if addr, ok := strings.CutPrefix(url, "tcp://"); ok {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return 0, err
		}
		d.conn = conn
	} else {
		//nolint:bodyclose // the library closes it
		ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return 0, err
		}
		// NetConn ends with its context, so it gets one that does not end.
		d.conn = websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary)
	}
	d.r = bufio.NewReader(d.conn)
	c := mqtt.Connect{
		Version: d.version, CleanStart: true, KeepAlive: 30, ClientID: []byte(d.clientID),
		HasUsername: d.username != "", Username: []byte(d.username),
		HasPassword: d.password != "", Password: []byte(d.password),
	}
	if d.will != nil {
		c.HasWill, c.Will = true, *d.will
	}
	if err := d.write(c.Append(d.buf[:0])); err != nil {
		return 0, err
	}
	h, body, err := d.read(ctx)
	if err != nil {
		return 0, err
	}
	var ack mqtt.Connack
	if h.Type != mqtt.CONNACK {
		return 0, fmt.Errorf("%v instead of CONNACK", h.Type)
	}
	if err := ack.Parse(d.version, body); err != nil {
		return 0, err
	}
	return ack.Code, nil
}

// publish sends one message and, at QoS 1, waits for its acknowledgement.
func (d *device) publish(ctx context.Context, topic string, qos byte, payload string) error {
	p := mqtt.Publish{Topic: []byte(topic), QoS: qos, Payload: []byte(payload)}
	if qos > 0 {
		p.PacketID = d.id()
	}
	if err := d.write(p.Append(d.buf[:0], d.version)); err != nil || qos == 0 {
		return err
	}
	_, err := d.await(ctx, mqtt.PUBACK)
	return err
}

// errRefused says that a filter was not granted.
var errRefused = errors.New("refused")

// subscribe asks for one filter.
func (d *device) subscribe(ctx context.Context, filter string, qos byte) error {
	s := mqtt.Subscribe{PacketID: d.id(), Filters: []mqtt.SubscribeFilter{{Filter: []byte(filter), QoS: qos, Options: qos}}}
	if err := d.write(s.Append(d.buf[:0], d.version)); err != nil {
		return err
	}
	body, err := d.await(ctx, mqtt.SUBACK)
	if err != nil {
		return err
	}
	var ack mqtt.Suback
	if err := ack.Parse(mqtt.Header{Type: mqtt.SUBACK, Length: len(body)}, d.version, body); err != nil {
		return err
	}
	if len(ack.Codes) != 1 || mqtt.ReasonCode(ack.Codes[0]).Failed() {
		return errRefused
	}
	return nil
}

// listen reads, keeps the connection alive and acknowledges deliveries until
// ctx or the connection ends.
func (d *device) listen(ctx context.Context, each func(topic string)) error {
	for {
		h, body, err := d.read(ctx)
		if errors.Is(err, errIdle) {
			if err := d.write(mqtt.AppendPing(d.buf[:0], mqtt.PINGREQ)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if h.Type != mqtt.PUBLISH {
			continue
		}
		var p mqtt.Publish
		if err := p.Parse(h, d.version, body); err != nil {
			return err
		}
		each(string(p.Topic))
		if p.QoS == 1 {
			ack := mqtt.Ack{PacketID: p.PacketID}
			if err := d.write(ack.Append(d.buf[:0], mqtt.PUBACK, d.version)); err != nil {
				return err
			}
		}
	}
}

// close says goodbye and closes.
func (d *device) close() {
	if d.conn == nil {
		return
	}
	// A peer that is gone already hears no goodbye: nothing to do about it.
	_ = d.write(new(mqtt.Disconnect).Append(d.buf[:0], mqtt.DISCONNECT, d.version))
	_ = d.conn.Close()
}

func (d *device) id() uint16 {
	d.nextID++
	if d.nextID == 0 {
		d.nextID = 1
	}
	return d.nextID
}

func (d *device) write(b []byte) error {
	d.buf = b
	if err := d.conn.SetWriteDeadline(time.Now().Add(ioTimeout)); err != nil {
		return err
	}
	_, err := d.conn.Write(b)
	return err
}

// await skips packets until one of type t comes.
func (d *device) await(ctx context.Context, t mqtt.Type) ([]byte, error) {
	for {
		h, body, err := d.read(ctx)
		if err != nil {
			return nil, err
		}
		if h.Type == t {
			return body, nil
		}
		if h.Type == mqtt.DISCONNECT {
			return nil, io.EOF
		}
	}
}

// errIdle says that nothing came for ioTimeout.
var errIdle = errors.New("idle")

// read reads one packet.
func (d *device) read(ctx context.Context) (mqtt.Header, []byte, error) {
	if err := ctx.Err(); err != nil {
		return mqtt.Header{}, nil, err
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(ioTimeout)); err != nil {
		return mqtt.Header{}, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = d.conn.SetReadDeadline(time.Now()) })
	defer stop()
	if _, err := d.r.Peek(1); err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() && ctx.Err() == nil {
			return mqtt.Header{}, nil, errIdle
		}
		return mqtt.Header{}, nil, err
	}
	for n := 2; n <= 5; n++ {
		head, err := d.r.Peek(n)
		if err != nil {
			return mqtt.Header{}, nil, err
		}
		h, err := mqtt.ParseHeader(head, d.version, mqtt.Broker)
		if errors.Is(err, mqtt.ErrIncomplete) {
			continue
		}
		if err != nil {
			return h, nil, err
		}
		packet := make([]byte, h.Size())
		_, err = io.ReadFull(d.r, packet)
		return h, packet[h.Len:], err
	}
	return mqtt.Header{}, nil, mqtt.ErrIncomplete
}

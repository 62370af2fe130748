package health

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Probe connects to the broker as an MQTT 3.1.1 client with a fresh client id
// and no session. Any CONNACK, also one that refuses, says that it is there; no
// error then. It takes c.ProbeTimeoutMS at most.
func Probe(ctx context.Context, c *config.Broker) error {
	timeout := time.Duration(c.ProbeTimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dial(ctx, c.URL)
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	defer conn.Close()                                                //nolint:errcheck // nothing is left to be said
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(past) })() //nolint:errcheck // an error shows in Read
	if _, err := conn.Write(connect(c)); err != nil {
		return fmt.Errorf("send CONNECT: %w", err)
	}
	var ack [4]byte
	switch _, err := io.ReadFull(bufio.NewReader(conn), ack[:]); {
	case ctx.Err() != nil:
		return fmt.Errorf("no CONNACK within %v", timeout)
	case err != nil:
		return fmt.Errorf("wait for CONNACK: %w", err)
	case ack[0] != 0x20 || ack[1] < 2:
		return errors.New("the broker answers something else than CONNACK")
	}
	_, _ = conn.Write([]byte{0xE0, 0}) // DISCONNECT, so that the broker need not guess
	return nil
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// dial opens what MQTT goes over.
func dial(ctx context.Context, url string) (net.Conn, error) {
	scheme, hostport, err := config.ParseUpstreamURL(url)
	switch {
	case err != nil:
		// The configuration is checked: what is left is ws and wss.
		return dialWebSocket(ctx, url)
	case scheme == "mqtts":
		d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		return d.DialContext(ctx, "tcp", hostport)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", hostport)
}

func dialWebSocket(ctx context.Context, url string) (net.Conn, error) {
	transport := &http.Transport{DisableKeepAlives: true} // no proxy of the environment's
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	//nolint:bodyclose // closed by Dial
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"mqtt"}})
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(1 << 10)
	return websocket.NetConn(ctx, c, websocket.MessageBinary), nil
}

// connect is a CONNECT of MQTT 3.1.1 with a clean session. The client id is
// one that no client has.
func connect(c *config.Broker) []byte {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	flags := byte(0x02)
	body := text(nil, "probe-"+hex.EncodeToString(id[:]))
	if c.Username != "" {
		flags |= 0x80
		body = text(body, c.Username)
	}
	if c.Password != "" {
		flags |= 0x40
		body = text(body, string(c.Password))
	}
	body = append(append(text(nil, "MQTT"), 4, flags, 0, 10), body...)
	head := []byte{0x10}
	for n := len(body); ; {
		b := byte(n & 0x7F)
		if n >>= 7; n == 0 {
			return append(append(head, b), body...)
		}
		head = append(head, b|0x80)
	}
}

// text appends a string of MQTT.
func text(dst []byte, s string) []byte {
	s = s[:min(len(s), 0xFFFF)]
	return append(append(dst, byte(len(s)>>8), byte(len(s))), s...)
}

//go:build matrix

package matrix

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahov3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// inbox collects what a client in this process receives.
type inbox struct {
	// Guarded by mu.
	mu   sync.Mutex
	all  []message
	gone error
}

func (i *inbox) add(m message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, m)
}

func (i *inbox) lost(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone = errors.Join(errors.New("the connection was lost"), err)
}

func (i *inbox) now() ([]message, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]message(nil), i.all...), i.gone
}

func (i *inbox) receive(count int) (got []message, err error) {
	_ = testkit.Poll("messages", patience, func() bool { // fewer are an answer too
		got, err = i.now()
		return len(got) >= count || err != nil
	})
	if len(got) >= count {
		err = nil
	}
	return got, err
}

// dial opens tcp://host:port or ws://host:port/path.
func dial(rawURL string) (net.Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "tcp" {
		return net.DialTimeout("tcp", u.Host, patience)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, rawURL, &websocket.DialOptions{Subprotocols: []string{"mqtt"}, HTTPHeader: http.Header{}})
	if err != nil {
		return nil, err
	}
	if resp.Body != nil {
		resp.Body.Close()
	}
	c.SetReadLimit(-1)
	return websocket.NetConn(context.Background(), c, websocket.MessageBinary), nil
}

// goConn3 is github.com/eclipse/paho.mqtt.golang.
type goConn3 struct {
	inbox
	c pahov3.Client

	// Guarded by netMu.
	netMu sync.Mutex
	net   net.Conn
}

func openPahoGo3(o options) (conn, ack, error) {
	g := new(goConn3)
	opts := pahov3.NewClientOptions().AddBroker(o.URL).SetClientID(o.ID).SetProtocolVersion(4).SetCleanSession(o.Clean).
		SetAutoReconnect(o.Reconnect).SetConnectRetry(o.Reconnect).SetConnectRetryInterval(20 * time.Millisecond).
		SetMaxReconnectInterval(20 * time.Millisecond).SetResumeSubs(false).
		SetConnectTimeout(patience).SetKeepAlive(30 * time.Second).SetOrderMatters(true).
		SetConnectionLostHandler(func(_ pahov3.Client, err error) {
			if !o.Reconnect {
				g.lost(err)
			}
		}).
		SetDefaultPublishHandler(func(_ pahov3.Client, m pahov3.Message) {
			g.add(message{Topic: m.Topic(), Payload: string(m.Payload()), QoS: m.Qos(), Retain: m.Retained()})
		})
	if u, err := url.Parse(o.URL); err == nil && u.Scheme == "tcp" { // over ws it uses its own
		opts.SetCustomOpenConnectionFn(func(u *url.URL, _ pahov3.ClientOptions) (net.Conn, error) {
			c, err := dial(u.String())
			g.netMu.Lock()
			defer g.netMu.Unlock()
			g.net = c
			return c, err
		})
	}
	if w := o.Will; w != nil {
		opts.SetWill(w.Topic, w.Payload, w.QoS, w.Retain)
	}
	g.c = pahov3.NewClient(opts)
	tok := g.c.Connect()
	if !tok.WaitTimeout(patience) {
		return nil, ack{}, errors.New("no CONNACK")
	}
	ct := tok.(*pahov3.ConnectToken)
	if ct.ReturnCode() != 0 && ct.ReturnCode() < 6 {
		return g, ack{Code: int(ct.ReturnCode())}, nil
	}
	return g, ack{Present: ct.SessionPresent()}, tok.Error()
}

func (g *goConn3) wait(what string, tok pahov3.Token) error {
	if !tok.WaitTimeout(slow) {
		return fmt.Errorf("%s: no answer", what)
	}
	return tok.Error()
}

func (g *goConn3) subscribe(qos byte, filters ...string) (granted []int, err error) {
	all := map[string]byte{}
	for _, f := range filters {
		all[f] = qos
	}
	tok := g.c.SubscribeMultiple(all, nil)
	err = g.wait("SUBACK", tok)
	codes := tok.(*pahov3.SubscribeToken).Result()
	for _, f := range filters {
		granted = append(granted, int(codes[f]))
	}
	return granted, err
}

func (g *goConn3) publish(all ...message) error {
	var toks []pahov3.Token
	for _, m := range all {
		toks = append(toks, g.c.Publish(m.Topic, m.QoS, m.Retain, m.Payload))
	}
	for _, tok := range toks {
		if err := g.wait("acknowledgement", tok); err != nil {
			return err
		}
	}
	return nil
}

func (g *goConn3) disconnect() error {
	g.c.Disconnect(100) // milliseconds for what is still to be written
	return nil
}

func (g *goConn3) drop() error {
	g.netMu.Lock()
	defer g.netMu.Unlock()
	return g.net.Close()
}

// goConn5 is github.com/eclipse/paho.golang.
type goConn5 struct {
	inbox
	c   *paho.Client
	net net.Conn
}

func openPahoGo5(o options) (conn, ack, error) {
	g := new(goConn5)
	var err error
	if g.net, err = dial(o.URL); err != nil {
		return nil, ack{}, err
	}
	g.c = paho.NewClient(paho.ClientConfig{
		ClientID: o.ID, Conn: packets.NewThreadSafeConn(g.net), PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			g.add(received(p.Packet))
			return true, nil
		}},
		OnClientError:      g.lost,
		OnServerDisconnect: func(d *paho.Disconnect) { g.lost(fmt.Errorf("DISCONNECT %#x", d.ReasonCode)) },
	})
	cp := &paho.Connect{
		ClientID: o.ID, CleanStart: o.Clean, KeepAlive: 30,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &o.Expiry},
	}
	if w := o.Will; w != nil {
		cp.WillMessage = &paho.WillMessage{Topic: w.Topic, Payload: []byte(w.Payload), QoS: w.QoS, Retain: w.Retain}
		cp.WillProperties = &paho.WillProperties{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ca, err := g.c.Connect(ctx, cp)
	if ca == nil {
		return nil, ack{}, err
	}
	return g, ack{Code: int(ca.ReasonCode), Present: ca.SessionPresent}, nil
}

func received(p *paho.Publish) message {
	m := message{Topic: p.Topic, Payload: string(p.Payload), QoS: p.QoS, Retain: p.Retain}
	if pr := p.Properties; pr != nil {
		m.ContentType, m.ResponseTopic, m.Correlation = pr.ContentType, pr.ResponseTopic, string(pr.CorrelationData)
		if pr.PayloadFormat != nil {
			m.Format = int(*pr.PayloadFormat)
		}
		for _, u := range pr.User {
			m.User = append(m.User, [2]string{u.Key, u.Value})
		}
	}
	return m
}

func (g *goConn5) subscribe(qos byte, filters ...string) (granted []int, err error) {
	s := new(paho.Subscribe)
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: qos})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := g.c.Subscribe(ctx, s)
	if a != nil {
		for _, code := range a.Reasons {
			granted = append(granted, int(code))
		}
	}
	return granted, err
}

func (g *goConn5) publish(all ...message) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, m := range all {
		p := &paho.Publish{Topic: m.Topic, Payload: []byte(m.Payload), QoS: m.QoS, Retain: m.Retain, Properties: &paho.PublishProperties{
			ContentType: m.ContentType, ResponseTopic: m.ResponseTopic,
		}}
		if m.Correlation != "" {
			p.Properties.CorrelationData = []byte(m.Correlation)
		}
		if m.Format != 0 {
			p.Properties.PayloadFormat = paho.Byte(byte(m.Format))
		}
		for _, u := range m.User {
			p.Properties.User.Add(u[0], u[1])
		}
		if _, err := g.c.Publish(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (g *goConn5) disconnect() error { return g.c.Disconnect(&paho.Disconnect{}) }

func (g *goConn5) drop() error { return g.net.Close() }

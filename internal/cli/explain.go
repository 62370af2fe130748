package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/analyse"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

// explainCmd asks the policy a question.
type explainCmd struct {
	Action string `arg:"" enum:"connect,will,publish,subscribe,unsubscribe,deliver" help:"connect, will, publish, subscribe, unsubscribe or deliver."`
	Topic  string `arg:"" optional:"" help:"The topic, or the filter of subscribe and unsubscribe."`

	Config        string            `env:"MQTT_CONFIG" placeholder:"FILE" help:"The configuration; without one: built-in defaults."`
	Username      string            `placeholder:"U" help:"Without one: an anonymous client."`
	ClientID      string            `name:"client-id" placeholder:"C"`
	Group         []string          `placeholder:"G" help:"Repeatable. Without any: the user's in the users file."`
	Attribute     map[string]string `placeholder:"NAME=VALUE" help:"Repeatable."`
	ClientIP      string            `name:"client-ip" placeholder:"IP"`
	Protocol      string            `enum:"3,4,5,3.1,3.1.1,5.0" default:"5" help:"3, 4 or 5."`
	Listener      string            `placeholder:"NAME"`
	Door          string            `enum:"agent,gateway,both" default:"both" help:"agent, gateway or both."`
	Unverified    bool              `help:"A client whose credentials were not checked."`
	QoS           int               `name:"qos" default:"0" help:"0, 1 or 2."`
	Retain        bool              `help:"With the retain flag."`
	Payload       string            `placeholder:"TEXT" help:"The payload, or @FILE."`
	ResponseTopic string            `name:"response-topic" placeholder:"TOPIC"`
	JSON          bool              `name:"json" help:"For machines."`
}

// Help is shown by --help.
func (explainCmd) Help() string {
	return "Asks the code that decides, and shows every check on the way with its evidence. Credentials are taken to be right.\n\n" +
		"Example: " + Name + " explain --config gateway.json --username olga --group operators subscribe 'sensors/#'"
}

// Run prints the report.
func (c *explainCmd) Run(stdio *IO) error {
	cfg := config.Default()
	if c.Config != "" {
		var err error
		if cfg, _, err = config.Load(c.Config); err != nil {
			return usage(err)
		}
	}
	engine, err := policy.Compile(cfg)
	if err != nil {
		return usage(err)
	}
	q, err := c.query(cfg)
	if err != nil {
		return usage(err)
	}
	report := analyse.Explain(engine, q)
	if c.JSON {
		enc := json.NewEncoder(stdio.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	}
	return report.WriteText(stdio.Out)
}

func (c *explainCmd) query(cfg *config.Config) (analyse.Query, error) {
	q := analyse.Query{
		Username: c.Username, ClientID: c.ClientID, Groups: c.Group, Attributes: c.Attribute,
		Listener: c.Listener, Unverified: c.Unverified, Action: analyse.Action(c.Action), Topic: c.Topic,
		ResponseTopic: c.ResponseTopic, QoS: byte(c.QoS), Retain: c.Retain,
	}
	if c.Topic == "" && c.Action != "connect" {
		return q, fmt.Errorf("%s what? %s explain … %s TOPIC", c.Action, Name, c.Action)
	}
	if c.Topic != "" && c.Action == "connect" {
		return q, errors.New("connect has no topic; ask about the will of a CONNECT with: will TOPIC")
	}
	if c.QoS < 0 || c.QoS > 2 {
		return q, fmt.Errorf("--qos %d: 0, 1 or 2", c.QoS)
	}
	switch c.Protocol {
	case "3", "3.1":
		q.Version = mqtt.V31
	case "4", "3.1.1":
		q.Version = mqtt.V311
	default:
		q.Version = mqtt.V5
	}
	switch c.Door {
	case "agent":
		q.Doors = []policy.Door{policy.DoorAgent}
	case "gateway":
		q.Doors = []policy.Door{policy.DoorGateway}
	}
	if c.ClientIP != "" {
		addr, err := netip.ParseAddr(c.ClientIP)
		if err != nil {
			return q, fmt.Errorf("--client-ip %q: an IPv4 or IPv6 address", c.ClientIP)
		}
		q.ClientIP = addr
	}
	q.Payload = []byte(c.Payload)
	if file, ok := strings.CutPrefix(c.Payload, "@"); ok {
		data, err := os.ReadFile(file)
		if err != nil {
			return q, fmt.Errorf("--payload: %w", err)
		}
		q.Payload = data
	}
	if c.Username != "" && c.Group == nil && len(c.Attribute) == 0 {
		return q, c.lookup(cfg, &q)
	}
	return q, nil
}

// lookup takes groups and attributes from the users files, as authentication
// would.
func (c *explainCmd) lookup(cfg *config.Config, q *analyse.Query) error {
	if !cfg.Auth.Enabled {
		return nil
	}
	for i := range cfg.Auth.Providers {
		p := &cfg.Auth.Providers[i]
		if p.Type != "file" {
			continue
		}
		groups, attributes, found, err := auth.LookUp(p.Path, c.Username)
		if err != nil {
			return err
		}
		if found {
			q.Groups, q.Attributes = groups, attributes
			return nil
		}
	}
	return nil
}

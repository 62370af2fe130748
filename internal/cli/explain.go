package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
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
	ClientID      *string           `name:"client-id" placeholder:"C" help:"Without one: some client id that is accepted."`
	NoPassword    bool              `name:"no-password" help:"The user gives no password."`
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
	ExitCode      bool              `name:"exit-code" help:"Exit with 1 when a door denies it."`
}

// Help is shown by --help.
func (explainCmd) Help() string {
	return "Asks the code that decides, and shows every check on the way with its evidence. The password is taken to be right.\n\n" +
		"Exits with 0 whatever the answer is, with --exit-code 1 when a door denies it, and with 2 for a mistake in the command line or the configuration.\n\n" +
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
	q, err := c.query()
	if err != nil {
		return mistyped(err)
	}
	if err := c.known(cfg.Gateway.Listeners); err != nil {
		return mistyped(err)
	}
	if err := c.admission(cfg, engine, &q); err != nil {
		return usage(err)
	}
	report := analyse.Explain(engine, q)
	if a := &cfg.Auth; c.ClientID == nil && c.Action == "connect" && (a.ClientIDPattern != nil || a.ClientIDTemplate != "") {
		report.Notes = append(report.Notes, "the client id is taken to be one that auth accepts: ask with --client-id")
	}
	if report.Differ && c.Door == "both" && len(cfg.Gateway.Listeners) > 0 {
		report.Notes = append(report.Notes, `the agent door is for clients of a proxy: the command "gateway" does not open it; --door gateway leaves it out`)
	}
	if c.JSON {
		enc := json.NewEncoder(stdio.Out)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = report.WriteText(stdio.Out)
	}
	if err == nil && c.ExitCode && report.Denied() {
		return &exitError{code: exitFailed}
	}
	return err
}

// known refuses the name of a listener that is none. A configuration without
// listeners has them given when it is run.
func (c *explainCmd) known(listeners []config.Listener) error {
	var names []string
	for i := range listeners {
		names = append(names, listeners[i].Name)
	}
	if c.Listener == "" || len(names) == 0 || slices.Contains(names, c.Listener) {
		return nil
	}
	return fmt.Errorf("--listener %q: the listeners are %s", c.Listener, strings.Join(names, ", "))
}

func (c *explainCmd) query() (analyse.Query, error) {
	q := analyse.Query{
		Username: c.Username, Groups: c.Group, Attributes: c.Attribute,
		Listener: c.Listener, Unverified: c.Unverified, Action: analyse.Action(c.Action), Topic: c.Topic,
		ResponseTopic: c.ResponseTopic, QoS: byte(c.QoS), Retain: c.Retain,
	}
	if c.ClientID != nil {
		q.ClientID = *c.ClientID
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
	return q, nil
}

// admission asks the gate about the client's CONNECT, with the right password:
// who is refused there, and which groups and attributes a user has.
func (c *explainCmd) admission(cfg *config.Config, engine *policy.Engine, q *analyse.Query) error {
	if c.Unverified {
		return nil
	}
	q.Refusals = map[policy.Door]analyse.Refusal{}
	for _, door := range []policy.Door{policy.DoorGateway, policy.DoorAgent} {
		id := policy.Identity{Username: c.Username, ClientID: q.ClientID, Version: q.Version, Addr: q.ClientIP, Door: door}
		if door == policy.DoorGateway {
			id.Listener = c.Listener
		}
		with := *cfg
		if c.ClientID == nil { // one that the rules for client ids accept
			with.Auth.ClientIDPattern, with.Auth.MinClientIDLength, with.Auth.ClientIDTemplate = nil, 0, ""
		}
		f, err := auth.Foresee(&with, engine, id, !c.NoPassword)
		if err != nil {
			return err
		}
		if f.Reason != policy.ReasonNone {
			q.Refusals[door] = analyse.Refusal{Reason: f.Reason, Rule: f.Rule, Why: f.Why}
		}
		if f.Known && c.Group == nil && len(c.Attribute) == 0 {
			q.Groups, q.Attributes, q.Listed = f.Identity.Groups, f.Identity.Attributes, true
		}
	}
	return nil
}

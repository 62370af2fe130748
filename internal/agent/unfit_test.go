package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// TestUnfitNamesTheRule: who is refused before there is a subject is told of by
// the rule that refused all the same.
func TestUnfitNamesTheRule(t *testing.T) {
	a := open(t, `{"acl":{"default-action":"allow","rules":[{"name":"own","topics":["own/%c"],"decision":"deny"}]}}`, nil)
	r := impatient(t, a, wire.V2).Open("w").Send(t, mqtt.Client, testkit.Connect(v4, "c/1"))
	wantClose(t, "a client id that does not fit", r, 1008)
	wantRule(t, r, "own")
	a.await(t, "mqtt,blocked,client-id-invalid")
}

// TestFailOpenUnfit: who has a name that a deny rule cannot be filled with is
// not let in at the deadline either.
func TestFailOpenUnfit(t *testing.T) {
	a := open(t, "{"+strings.Join([]string{
		`"auth":{"enabled":true,"providers":[{"type":"file","path":"users.json"}]}`,
		`"acl":{"default-action":"allow","rules":[{"topics":["own/%c"],"decision":"deny"}]}`,
		`"agent":{"decision-timeout-ms":` + fmt.Sprint(deadline.Milliseconds()) + `}`,
		`"general":{"fail-open":true}`,
	}, ",")+"}", map[string]string{"alice": slowHash()})
	p := impatient(t, a, wire.V2)
	if r, ok := timed(p.Open("fit"), alice("c1", "right")); ok {
		want(t, "a client id that fits", r, wire.WSAllow)
	}
	if r, ok := timed(p.Open("unfit"), alice("c/1", "right")); ok {
		wantClose(t, "a client id that does not", r, 1008)
		wantRule(t, r, "rules[0]")
		a.await(t, "mqtt,blocked,client-id-invalid")
	}
}

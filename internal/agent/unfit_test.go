package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
)

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
		a.await(t, "mqtt,blocked,client-id-invalid")
	}
}

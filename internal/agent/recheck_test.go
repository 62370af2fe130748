package agent

import (
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/wire"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/auth"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/session"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// stale is a check whose outcome was found before a reload and is handed over
// after it: the recheck of the reload has passed the WebSocket by.
type stale struct {
	door   *door
	socket *testkit.WebSocket
	answer chan wire.Response
	wait   *pending
	grant  auth.Grant
}

const withUsers = `"auth":{"enabled":true,"allow-anonymous":true,"providers":[{"type":"file","path":"users.json"}]}`

func newStale(t *testing.T) *stale {
	t.Helper()
	s := &stale{door: open(t, conf(withUsers), map[string]string{"alice": slowHash()}), answer: make(chan wire.Response, 1)}
	s.socket = s.door.proxy(t, wire.V2).Open("stale")
	go func() {
		r, _ := s.socket.Try(mqtt.Client, wire.OpBinary, true, alice("c", "right"))
		s.answer <- r
	}()
	await(t, "the CONNECT waits", func() bool {
		ws := s.door.table.byID("stale")
		if ws == nil {
			return false
		}
		ws.mu.Lock()
		defer ws.mu.Unlock()
		s.wait = ws.pending
		return s.wait != nil
	})
	engine, err := policy.Compile(s.door.settings.Load().cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.grant = auth.Grant{Admission: session.Admission{Subject: engine.Bind(policy.Identity{
		Username: "alice", ClientID: "c", Standing: policy.Verified, Provider: "file", Version: 4, Door: policy.DoorAgent,
	})}}
	return s
}

// TestStaleAdmission: what was decided before a reload does not outlive it.
func TestStaleAdmission(t *testing.T) {
	t.Run("the policy", func(t *testing.T) {
		s := newStale(t)
		reload(t, s.door, "{"+withUsers+`,"acl":{"default-action":"deny"}}`)
		if !s.wait.answer(s.grant) {
			t.Fatal("the check itself was faster")
		}
		want(t, "CONNECT", <-s.answer, wire.WSAllow)
		want(t, "CONNACK", s.socket.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
		want(t, "the new policy", s.socket.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSDrop)
	})
	t.Run("the user", func(t *testing.T) {
		s := newStale(t)
		writeUsers(t, s.door.dir, map[string]string{"bob": slowHash()})
		reload(t, s.door, conf(withUsers))
		gate, info := s.door.gate, session.ConnectInfo{Version: v4, ClientID: "held"}
		held, _ := gate.Try(auth.Request{Connect: &info, Door: policy.DoorAgent})
		if s.grant.Lease = held.Lease; held.Lease == nil {
			t.Fatalf("no lease: %+v", held)
		}
		if !s.wait.answer(s.grant) {
			t.Fatal("the check itself was faster")
		}
		r := <-s.answer
		wantClose(t, "CONNECT of a user that is gone", r, 1008)
		if r.Tags[2] != "auth-failed" {
			t.Errorf("tags %q", r.Tags)
		}
		info.Username, info.HasUsername, info.Password, info.HasPassword = "bob", true, []byte("right"), true
		if bob := gate.Admit(t.Context(), auth.Request{Connect: &info, Door: policy.DoorAgent}); bob.Lease == nil {
			t.Errorf("the client id is not free: %+v", bob)
		}
	})
}

// TestStaleCatchUp: the same for a client that was let in at the deadline.
func TestStaleCatchUp(t *testing.T) {
	s := newStale(t)
	if !s.wait.answer(auth.Grant{Admission: s.grant.Admission}) {
		t.Fatal("the check itself was faster")
	}
	want(t, "CONNECT", <-s.answer, wire.WSAllow)
	want(t, "CONNACK", s.socket.Send(t, mqtt.Broker, testkit.Connack(v4, false, 0)), wire.WSAllow)
	reload(t, s.door, "{"+withUsers+`,"acl":{"default-action":"deny"}}`)
	s.wait.caught(s.grant)
	want(t, "the new policy", s.socket.Send(t, mqtt.Client, publish("dev/a", 0)), wire.WSDrop)

	s = newStale(t)
	s.wait.answer(auth.Grant{Admission: s.grant.Admission})
	<-s.answer
	writeUsers(t, s.door.dir, map[string]string{"bob": slowHash()})
	ws := s.door.table.byID("stale")
	cfg := parse(t, s.door.dir, conf(withUsers))
	engine, err := policy.Compile(cfg)
	if err == nil {
		err = s.door.gate.Reload(cfg, engine) // the door has not swept yet
	}
	if err != nil {
		t.Fatal(err)
	}
	s.wait.caught(s.grant)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.doom == nil {
		t.Error("a user that is gone goes on")
	}
}

package policy

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// There is a subject for each client.
func TestSubjectIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(Subject{}); n > 144 {
		t.Errorf("a Subject is %d bytes, at most 144", n)
	}
}

func TestEqualBindingsAreShared(t *testing.T) {
	e := compile(t, withRules(
		config.Rule{Topics: []string{"own/%u/#"}, Match: config.Match{UsernameRegex: regexp.MustCompile("^templated-")}, Decision: "allow"},
		config.Rule{Topics: []string{"g/%g"}, Match: config.Match{Groups: []string{"staff"}}, Decision: "allow"},
		config.Rule{Topics: []string{"all/#"}, Decision: "allow"},
		config.Rule{Topics: []string{"old/#"}, Match: config.Match{ProtocolVersion: 4}, Decision: "allow"},
	))
	bind := func(name string, groups ...string) *Subject { return e.Bind(user(name, groups...)) }
	old := user("c")
	old.Version = mqtt.V311
	unverified := user("a")
	unverified.Standing = Unverified
	agent := user("a")
	agent.Door = DoorAgent
	for _, tc := range []struct {
		name string
		a, b *Subject
		want bool
	}{
		{"equal identities", bind("a"), bind("a"), true},
		{"who they are does not matter", bind("a"), bind("b"), true},
		{"a name that is in a pattern", bind("templated-a"), bind("templated-b"), true},
		{"groups in any order", bind("a", "staff", "x"), bind("b", "x", "staff"), true},
		{"groups that are in a pattern", bind("a", "staff", "x"), bind("b", "staff"), false},
		{"another rule holds", bind("c"), e.Bind(old), false},
		{"unverified", bind("a"), e.Bind(unverified), false},
		{"the door does not matter", bind("a"), e.Bind(agent), true},
	} {
		if got := tc.a.bound == tc.b.bound; got != tc.want {
			t.Errorf("%s: shared is %v, want %v", tc.name, got, tc.want)
		}
	}
}

// TestBoundCacheIsBounded binds many identities whose subjects are dropped.
func TestBoundCacheIsBounded(t *testing.T) {
	e := compile(t, withRules(config.Rule{Topics: []string{"own/%g/%u/#"}, Decision: "allow"}))
	kept := e.Bind(user("kept", "g"))
	most := 0
	for i := range 40 {
		for j := range 500 {
			e.Bind(user(fmt.Sprint(i, "-", j), "g"))
		}
		runtime.GC()
		most = max(most, len(e.bound.known))
	}
	if limit := 4 * (minSweep + len(e.bound.recent)); most > limit {
		t.Errorf("%d entries for 20,000 identities that are gone, want at most %d", most, limit)
	}
	if e.Bind(user("kept", "g")).bound != kept.bound {
		t.Error("a binding in use was forgotten")
	}
}

func TestBindConcurrently(t *testing.T) {
	e := compile(t, description)
	done := make(chan bool)
	for range 4 {
		go func() {
			ok := true
			for i := range 500 {
				s := e.Bind(user(fmt.Sprint("sensor-", i%7), "admin"))
				qos, retain := s.Ceiling()
				ok = ok && s.Publish(Message{Topic: []byte("a")}, nil).Allowed() && qos == 2 && retain
			}
			done <- ok
		}()
	}
	for range 4 {
		if !<-done {
			t.Error("a binding made at the same time as others decides otherwise")
		}
	}
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	e := compile(t, func(c *config.Config) {
		description(c)
		qosExample(c)
		retainedExample(c)
	})
	s := e.Bind(user("root", "admin"))
	m := Message{Topic: []byte("config/7/data"), ResponseTopic: []byte("answers/7"), QoS: 1, Retain: true, PacketSize: 64, PayloadSize: 40}
	if v := s.Publish(m, nil); !v.Allowed() {
		t.Fatalf("denied: %v", v.Reason)
	}
	denied := Message{Topic: []byte("internal/x")}
	for name, f := range map[string]func(){
		"publish":        func() { s.Publish(m, nil) },
		"denied publish": func() { s.Publish(denied, nil) },
		"will":           func() { s.Will(m, nil) },
		"deliver":        func() { s.Deliver(m.Topic, nil) },
		"connect":        func() { s.Connect(nil) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// site is n rules: each device has three of its own, and some hold for all.
func site(n int) []config.Rule {
	rules := []config.Rule{
		{Name: "internal", Topics: []string{"internal/#"}, Decision: "deny", Priority: 10},
		{Name: "status", Topics: []string{"status/%c"}, Decision: "allow"},
	}
	for i := 0; len(rules) < n; i++ {
		m := config.Match{Username: fmt.Sprintf("device-%d", i)}
		rules = append(rules,
			config.Rule{Match: m, Topics: []string{fmt.Sprintf("devices/%d/data/#", i)}, Actions: []string{"publish"}, Decision: "allow"},
			config.Rule{Match: m, Topics: []string{fmt.Sprintf("devices/%d/cmd/+", i)}, Actions: []string{"subscribe"}, Decision: "allow"},
			config.Rule{Match: m, Topics: []string{fmt.Sprintf("devices/%d/secret", i)}, Decision: "deny"},
		)
	}
	return rules[:n]
}

// open is n rules that hold for everybody.
func open(n int) []config.Rule {
	rules := make([]config.Rule, n)
	for i := range rules {
		rules[i] = config.Rule{Topics: []string{fmt.Sprintf("devices/%d/data/#", i/2), fmt.Sprintf("devices/+/cmd/%d", i/2)}, Decision: "allow"}
		if i%2 == 0 {
			rules[i] = config.Rule{Topics: []string{fmt.Sprintf("devices/%d/data/secret", i/2)}, Decision: "deny"}
		}
	}
	return rules
}

var sizes = []int{10, 1000, 100_000}

func benchmarkRules(b *testing.B, run func(b *testing.B, e *Engine, n int)) {
	for name, rules := range map[string]func(int) []config.Rule{"site": site, "open": open} {
		for _, n := range sizes {
			e := compile(b, withRules(rules(n)...))
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				run(b, e, n)
			})
		}
	}
}

// BenchmarkPublish is an allowed PUBLISH of 64 bytes, of many devices in turn.
func BenchmarkPublish(b *testing.B) {
	benchmarkRules(b, func(b *testing.B, e *Engine, n int) {
		subjects, topics := many(e, n, "devices/%d/data/temperature")
		i := 0
		for b.Loop() {
			if !subjects[i&63].Publish(Message{Topic: topics[i&63], QoS: 1, PacketSize: 64, PayloadSize: 31}, nil).Allowed() {
				b.Fatalf("denied %s", topics[i&63])
			}
			i++
		}
	})
}

// many are 64 devices among n rules and a topic of each.
func many(e *Engine, n int, format string) (subjects [64]*Subject, topics [64][]byte) {
	for i := range subjects {
		device := i * 509 % max(1, (n-2)/3)
		subjects[i] = e.Bind(user(fmt.Sprintf("device-%d", device)))
		topics[i] = fmt.Appendf(nil, format, device)
	}
	return subjects, topics
}

func BenchmarkDeliver(b *testing.B) {
	benchmarkRules(b, func(b *testing.B, e *Engine, n int) {
		subjects, topics := many(e, n, "devices/%[1]d/cmd/%[1]d")
		i := 0
		for b.Loop() {
			if !subjects[i&63].Deliver(topics[i&63], nil).Allowed() {
				b.Fatalf("denied %s", topics[i&63])
			}
			i++
		}
	})
}

func BenchmarkSubscribe(b *testing.B) {
	e := compile(b, withRules(open(1000)...))
	for _, filter := range []string{"devices/7/data/#", "devices/+/cmd/7", "devices/#", "#", "$share/g/devices/7/data/x", strings.Repeat("+/", 63) + "+"} {
		for _, door := range []Door{DoorAgent, DoorGateway} {
			id := user("u")
			id.Door = door
			s := e.Bind(id)
			b.Run(fmt.Sprintf("%.20s/%v", strings.ReplaceAll(filter, "/", "."), door), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Subscribe([]byte(filter), 1, nil)
				}
			})
		}
	}
}

func BenchmarkBind(b *testing.B) {
	benchmarkRules(b, func(b *testing.B, e *Engine, n int) {
		ids := make([]Identity, 1024)
		for i := range ids {
			ids[i] = user(fmt.Sprintf("device-%d", i*97%max(1, (n-2)/3)))
		}
		i := 0
		for b.Loop() {
			e.Bind(ids[i&1023])
			i++
		}
	})
	regexes := make([]config.Rule, 1000) // each with its own expression
	for i := range regexes {
		m := config.Match{UsernameRegex: regexp.MustCompile(fmt.Sprintf("^site-%d-", i))}
		regexes[i] = config.Rule{Match: m, Topics: []string{fmt.Sprintf("sites/%d/#", i)}, Decision: "allow"}
	}
	e := compile(b, withRules(regexes...))
	b.Run("regex/1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Bind(user("site-500-x"))
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for name, rules := range map[string]func(int) []config.Rule{"site": site, "open": open} {
		cfg := config.Default()
		cfg.ACL.Rules = rules(100_000)
		b.Run(name+"/100000", func(b *testing.B) {
			for b.Loop() {
				if _, err := Compile(cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

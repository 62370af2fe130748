package session_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/testkit"
)

// costly are the packets that cost most to decide under the default limits: as
// large as max-packet-size allows, or as entangled as topic-levels does.
func costly(v mqtt.Version) map[string][]byte {
	times := func(n int, filter string) []string { return slices.Repeat([]string{filter}, n) }
	deep := "dev/" + strings.Repeat("+/", 62) + "#" // 64 levels
	topic := "dev/" + strings.Repeat("a/", 62) + "a"
	list := map[string][]byte{
		"subscribe/filters":         testkit.Subscribe(v, 7, times(170_000, "\u202e")...),
		"subscribe/short-filters":   testkit.Subscribe(v, 7, times(260_000, "a")...),
		"subscribe/share":           testkit.Subscribe(v, 7, times(80_000, "$share/g/a")...),
		"subscribe/levels":          testkit.Subscribe(v, 7, times(16, strings.Repeat("+/", 32_000)+"+")...),
		"subscribe/1000-deep":       testkit.Subscribe(v, 7, times(1000, deep)...),
		"subscribe/1000-denied":     testkit.Subscribe(v, 7, times(1000, "other/"+strings.Repeat("+/", 62)+"+")...),
		"subscribe/1000-shaded":     testkit.Subscribe(v, 7, times(1000, "+/secret/1")...),
		"subscribe/1000-long":       testkit.Subscribe(v, 7, times(1000, "dev/"+strings.Repeat("x", 1020))...),
		"subscribe/1000-shared":     testkit.Subscribe(v, 7, times(1000, "$share/g/"+deep)...),
		"subscribe/1000-all":        testkit.Subscribe(v, 7, times(1000, "#")...),
		"subscribe/1000-all-shared": testkit.Subscribe(v, 7, times(1000, "$share/g/dev/#")...),
		"unsubscribe/filters":       testkit.Unsubscribe(v, 7, times(200_000, "\u202e")...),
		"unsubscribe/1000-deep":     testkit.Unsubscribe(v, 7, times(1000, deep)...),
		"publish/levels":            testkit.Publish(v, strings.Repeat("/", 65_535), 0, 0, ""),
		"publish/deep":              testkit.Publish(v, topic, 0, 0, ""),
		"publish/not-ascii":         testkit.Publish(v, strings.Repeat("\u202e", 21_845), 1, 7, ""),
	}
	if v == mqtt.V5 {
		users := testkit.With(bytes.Repeat(testkit.PropUser("", ""), 200_000))
		list["publish/user-properties"] = testkit.Publish(v, "dev/a", 1, 7, "", users)
		list["publish/response-topic"] = testkit.Publish(v, "dev/a", 1, 7, "",
			testkit.With(testkit.PropStr(mqtt.ResponseTopic, "dev"+strings.Repeat("/a", 32_000))))
		list["subscribe/user-properties"] = testkit.SubscribeWith(v, 7, []testkit.Filter{{Filter: "dev/a"}}, users)
	}
	return list
}

// TestManyFiltersAreNotCollected bounds what a request with too many filters
// makes of each of them: a byte of the answer.
func TestManyFiltersAreNotCollected(t *testing.T) {
	const n = 100_000
	filters := slices.Repeat([]string{"\u202e"}, n)
	for name, p := range map[string][]byte{
		"subscribe": testkit.Subscribe(mqtt.V5, 7, filters...), "unsubscribe": testkit.Unsubscribe(mqtt.V5, 7, filters...),
	} {
		r := openRig(t, policy.DoorGateway, mqtt.V5, plainConfig)
		r.fx.Reset()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.s.Feed(r.now, mqtt.Client, p, &r.fx)
		runtime.ReadMemStats(&after)
		if each := float64(after.TotalAlloc-before.TotalAlloc) / n; each > 10 {
			t.Errorf("%s: %.1f bytes of memory for each filter", name, each)
		}
		if len(r.fx.Events) != 1 {
			t.Fatalf("%s: %d events, want 1", name, len(r.fx.Events))
		}
		if e := &r.fx.Events[0]; len(e.Filters) > 20 || len(e.Filters)+e.MoreFilters != n {
			t.Errorf("%s: the event names %d filters and counts %d more, want %d in all", name, len(e.Filters), e.MoreFilters, n)
		}
		if len(r.fx.Out[mqtt.Broker]) > 0 || len(r.fx.Bytes(mqtt.Client, p, nil)) < n {
			t.Errorf("%s: is not answered, or forwarded", name)
		}
	}
}

// BenchmarkCostly is the loop's time for one packet of those that cost most,
// under a few rules that make a filter of wildcards hard and under many.
func BenchmarkCostly(b *testing.B) {
	var few, many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&few, `{"topics": ["%s%d/#", "%[1]s%[2]d"], "decision": "deny"},`, strings.Repeat("+/", i), i)
	}
	for i := range 2000 {
		fmt.Fprintf(&many, `{"topics": ["dev/a%d/+/%d/#", "+/+/x%[1]d"], "decision": "%[3]s"},`, i, i%7, []string{"allow", "deny"}[i%2])
	}
	shaded := `{"topics": ["+/secret/#"], "decision": "deny"},`
	for i := range 2000 {
		shaded += fmt.Sprintf(`{"topics": ["d%d/#"], "decision": "allow"},`, i)
	}
	for rules, text := range map[string]string{"few": few.String(), "many": many.String(), "shaded": shaded} {
		config := `{"acl": {"rules": [` + text + `{"topics": ["dev/#"], "decision": "allow"}]}}`
		for name, p := range costly(mqtt.V5) {
			b.Run(rules+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					r := openRig(b, policy.DoorGateway, mqtt.V5, config)
					r.fx.Reset()
					b.StartTimer()
					if n := r.s.Feed(r.now, mqtt.Client, p, &r.fx); n != len(p) {
						b.Fatalf("consumed %d of %d", n, len(p))
					}
				}
			})
		}
	}
}

package topic_test

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/topic"
)

func ExampleSet_Decide() {
	rules := topic.Set{Own: topic.NewIndex([]topic.Entry{
		{Pattern: "internal/#", Rank: 0},
		{Pattern: "sensors/+", Rank: 1, Allow: true},
	})}
	for _, mode := range []topic.Mode{topic.Strict, topic.Filter} {
		d := rules.Decide("sensors/#", nil, mode, true)
		fmt.Println(d.Allow, d.Witness)
	}
	// Output:
	// false sensors
	// true sensors/any
}

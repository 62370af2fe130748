package policy_test

import (
	"fmt"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/policy"
)

func ExampleEngine_Bind() {
	cfg := config.Default()
	cfg.ACL.Rules = []config.Rule{{Name: "own data", Topics: []string{"sensors/%u/data"}, Decision: "allow"}}
	engine, err := policy.Compile(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	subject := engine.Bind(policy.Identity{Username: "s1", Standing: policy.Verified})
	for _, topic := range []string{"sensors/s1/data", "sensors/s2/data"} {
		v := subject.Publish(policy.Message{Topic: []byte(topic)}, nil)
		fmt.Println(v.Allowed(), v.Reason.Tag(), engine.RuleName(v.Rule))
	}
	// Output:
	// true  own data
	// false acl-denied default-action
}

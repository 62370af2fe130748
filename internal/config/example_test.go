package config_test

import (
	"fmt"
	"os"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

func ExampleParse() {
	text := []byte(`{
  "acl": {
    "rules": [{ "topics": ["sensors/#"], "actions": "publish", "desicion": "allow" }],
  },
}`)
	_, _, err := config.Parse("gateway.json", "", text, os.LookupEnv)
	fmt.Println(err)
	// Output:
	// gateway.json:3:53: acl.rules[0].actions: found the text "publish"; accepted: a list
	//     hint: write ["publish"]
	// gateway.json:3:64: acl.rules[0]: unknown key "desicion"
	//     hint: did you mean "decision"?
}

package config

import (
	"strings"
	"testing"
)

func TestParseListenAddress(t *testing.T) {
	for _, c := range []struct{ in, scheme, hostport, path string }{
		{"tcp://:1883", "tcp", ":1883", ""},
		{"tcp://0.0.0.0:1883", "tcp", "0.0.0.0:1883", ""},
		{"tcp://127.0.0.1:0", "tcp", "127.0.0.1:0", ""},
		{"tls://[::1]:8883", "tls", "[::1]:8883", ""},
		{"ws://:8083", "ws", ":8083", ""},
		{"ws://:8083/", "ws", ":8083", "/"},
		{"wss://panel.example.com:443/mqtt/v5", "wss", "panel.example.com:443", "/mqtt/v5"},
		{"TCP://:1883", "tcp", ":1883", ""},
	} {
		scheme, hostport, path, err := ParseListenAddress(c.in)
		if err != nil || scheme != c.scheme || hostport != c.hostport || path != c.path {
			t.Errorf("%s: got %q %q %q %v, want %q %q %q", c.in, scheme, hostport, path, err, c.scheme, c.hostport, c.path)
		}
	}
	for _, in := range []string{
		"", "1883", ":1883", "tcp:", "tcp://", "tcp:1883", "tcp:///x", "tcp://:", "tcp://:x", "tcp://:65536", "tcp://:01883", "tcp://:-1",
		"tcp://u@:1883", "tcp://:1883/", "tcp://:1883#x", "tcp://:1883?", "tcp://1.2.3:1", "tcp://1.2.3.4.5:1", "tcp://a b:1", "mqtt://:1883",
		"tcp://[::1:1883", "tcp://[fe80::1%25eth0]:", "ws://:80?x",
	} {
		if scheme, hostport, path, err := ParseListenAddress(in); err == nil {
			t.Errorf("%q is accepted: %q %q %q", in, scheme, hostport, path)
		}
	}
}

func TestParseUpstreamURL(t *testing.T) {
	for _, c := range []struct{ in, scheme, hostport string }{
		{"mqtt://127.0.0.1:1883", "mqtt", "127.0.0.1:1883"},
		{"mqtt://broker", "mqtt", "broker:1883"},
		{"mqtts://broker.example.com", "mqtts", "broker.example.com:8883"},
		{"mqtt://[::1]", "mqtt", "[::1]:1883"},
		{"mqtt://[::1]:11883", "mqtt", "[::1]:11883"},
	} {
		scheme, hostport, err := ParseUpstreamURL(c.in)
		if err != nil || scheme != c.scheme || hostport != c.hostport {
			t.Errorf("%s: got %q %q %v, want %q %q", c.in, scheme, hostport, err, c.scheme, c.hostport)
		}
	}
	for _, in := range []string{"", "broker", "broker:1883", "mqtt:broker", "mqtt://", "mqtt://:1883", "mqtt://h:0", "mqtt://h/", "tcp://h", "ws://h", "mqtt://u:p@h", "mqtt://h?x=1"} {
		if scheme, hostport, err := ParseUpstreamURL(in); err == nil {
			t.Errorf("%q is accepted: %q %q", in, scheme, hostport)
		}
	}
}

func TestApplyListen(t *testing.T) {
	load := func(t *testing.T) *Config {
		cfg, _, errs := parse(t, `{
			"acl": {"rules": [{"name": "guests", "decision": "deny", "topics": ["#"], "match": {"listener": "in"}}]},
			"gateway": {
				"listeners": [{"name": "in", "address": "tcp://:1883", "auth": {"allow-anonymous": true}}],
				"upstreams": [{"url": "mqtt://a", "username": "gw", "password": "p"}]
			}}`)
		if errs != nil {
			t.Fatal(errs)
		}
		return cfg
	}
	t.Run("nothing given", func(t *testing.T) {
		cfg := load(t)
		if err := ApplyListen(cfg, nil, nil); err != nil {
			t.Fatal(err)
		}
		same(t, cfg, load(t))
	})
	t.Run("replaces, and keeps what it knows", func(t *testing.T) {
		cfg := load(t)
		if err := ApplyListen(cfg, []string{"tcp://:1883", "ws://:8083/mqtt"}, []string{"mqtt://b", "mqtt://a"}); err != nil {
			t.Fatal(err)
		}
		l, u := cfg.Gateway.Listeners, cfg.Gateway.Upstreams
		if len(l) != 2 || l[0].Name != "in" || l[0].Auth == nil || l[1].Name != "ws://:8083/mqtt" || l[1].TLS.MinVersion != "1.2" {
			t.Errorf("listeners %+v", l)
		}
		if len(u) != 2 || u[0].Username != "" || u[0].ClientID != "%c" || u[1].Username != "gw" {
			t.Errorf("upstreams %+v", u)
		}
	})
	t.Run("defaults", func(t *testing.T) {
		cfg := Default()
		if err := ApplyListen(cfg, []string{"tcp://:1883"}, []string{"mqtt://b"}); err != nil || len(cfg.Gateway.Listeners) != 1 || len(cfg.Gateway.Upstreams) != 1 {
			t.Errorf("%v %+v", err, cfg.Gateway)
		}
	})
	for name, c := range map[string]struct {
		listen, upstream []string
		want             []string
	}{
		"bad address":              {[]string{"tcp:1883"}, nil, []string{"--listen tcp:1883: it does not begin with"}},
		"bad URL":                  {nil, []string{"tcp://h"}, []string{"--upstream tcp://h: it does not begin with mqtt://"}},
		"a password is not shown":  {nil, []string{"mqtt://u:hunter2@h"}, []string{"--upstream: the value holds a user name or password"}},
		"twice":                    {[]string{"tcp://:1883", "ws://:1883"}, nil, []string{"given twice"}},
		"a rule loses its sense":   {[]string{"tcp://:1884"}, nil, []string{`the listener "in" that the rule "guests" names`}},
		"TLS is not enforced":      {[]string{"tcp://:1883", "tls://:8883"}, []string{"mqtts://h"}, []string{"tls://:8883: this version", "mqtts://h: this version"}},
		"all mistakes, not one":    {[]string{"x", "y"}, []string{"z"}, []string{"--listen x", "--listen y", "--upstream z"}},
		"the same broker is given": {nil, []string{"mqtt://a", "mqtt://a"}, []string{"--upstream mqtt://a: given twice"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := ApplyListen(load(t), c.listen, c.upstream)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

package config

import "reflect"

// Default returns the whole default configuration: what is in force when no
// file is given.
func Default() *Config {
	return &Config{
		Auth: Auth{
			MaxClientIDLength: 128,
			Takeover:          "same-identity",
			FailureLockout:    Lockout{Attempts: 10, WindowSecs: 60, LockoutSecs: 60, By: "client_ip+username"},
		},
		ACL: ACL{
			Enabled:            true,
			DefaultAction:      "deny",
			CacheDecisions:     true,
			SubscribeMode:      "auto",
			CheckResponseTopic: true,
			OnDeniedWill:       "refuse",
		},
		Inspection: Inspection{
			MaxPayloadSize: 262144,
			Sensitivity:    "balanced",
			BlockSeverity:  "low",
		},
		RateLimit: RateLimit{
			KeyBy:      "client_id",
			OnExceed:   "auto",
			MaxDelayMS: 1000,
			Store:      Store{Type: "local", LeaseMS: 50, ExpectedGateways: 1},
		},
		QoS:      QoS{MaxQoS: 2, Downgrade: true},
		Retained: Retained{AllowRetained: true, OnDenied: "drop"},
		General: General{
			BlockMode:          true,
			ProtocolVersions:   []string{"3.1.1", "5.0"},
			ConnectTimeoutSecs: 30,
			MaxPacketSize:      1 << 20,
			MaxDeliverySize:    16 << 20,
			Watch:              "files",
			Limits: Limits{
				TopicBytes:          1024,
				TopicLevels:         64,
				FiltersPerSubscribe: 1000,
				Subscriptions:       10000,
				UserProperties:      64,
				WillBytes:           65536,
				ReceiveMaximum:      1024,
				TopicAliases:        16,
				OutstandingRequests: 64,
				DenialsPerMinute:    600,
				PendingConnections:  4096,
				PendingPerIP:        256,
				ConnectBytes:        131072,
				BufferBytes:         256 << 20,
			},
		},
		Agent: Agent{
			DecisionTimeoutMS:   50,
			OnDeny:              "drop",
			WebSocketExtensions: "refuse",
			RequireSubprotocol:  true,
			MaxSessions:         100000,
			SocketMode:          "0660",
			AcceptConfig:        "socket",
		},
		Broker: Broker{ProbeIntervalSecs: 10, ProbeTimeoutMS: 2000},
		Gateway: Gateway{
			Balance:          "first",
			ConnectTimeoutMS: 5000,
			OnDeny:           "ack",
			RevokedWill:      "suppress",
			DrainWill:        "fire",
			WriteStallSecs:   30,
			IO:               "auto",
		},
		Audit: Audit{Output: "stdout", Include: "denied"},
		Admin: Admin{Console: true},
	}
}

// entryDefault returns the defaults of an entry of a list, or of an object that
// is absent unless given.
func entryDefault(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[Limit]():
		return reflect.ValueOf(limitDefault())
	case reflect.TypeFor[TopicLimit]():
		return reflect.ValueOf(TopicLimit{Limit: limitDefault(), Scope: "shared"})
	case reflect.TypeFor[CustomPattern]():
		return reflect.ValueOf(CustomPattern{Severity: "medium"})
	case reflect.TypeFor[JSONSchema]():
		return reflect.ValueOf(JSONSchema{BlockOnFailure: true})
	case reflect.TypeFor[PayloadRule]():
		return reflect.ValueOf(PayloadRule{OnFailure: "block"})
	case reflect.TypeFor[Listener]():
		return reflect.ValueOf(listenerDefault())
	case reflect.TypeFor[Upstream]():
		return reflect.ValueOf(upstreamDefault())
	}
	return reflect.Zero(t)
}

func limitDefault() Limit { return Limit{Burst: 10} }

func listenerDefault() Listener {
	return Listener{ProxyProtocol: "off", TLS: ListenerTLS{ClientAuth: "none", MinVersion: "1.2"}}
}

func upstreamDefault() Upstream { return Upstream{ClientID: "%c", ProxyProtocol: "off"} }

// providerDefault returns the defaults of a provider of a type.
func providerDefault(kind string) Provider {
	p := Provider{Type: kind}
	switch kind {
	case "file":
		p.HotReload, p.CacheTTLSecs = true, 300
	case "jwt":
		p.JWKSRefreshSecs = 300
		p.UsernameClaim, p.GroupsClaim = "sub", "groups"
		p.DisconnectOnExpiry, p.RequireExpiry = true, true
	case "certificate":
		p.ExtractFrom, p.Source = "common_name", "tls"
	case "http":
		p.TimeoutMS = 5000
	}
	return p
}

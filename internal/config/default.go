package config

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

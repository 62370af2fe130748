// Package config reads, checks and describes the configuration.
//
// Start with [Load]: bytes → positioned tree → bind (types, unknown keys) →
// check (meaning). Every step adds to one list of errors, each with its place;
// nothing alive is touched. The types in this file are the whole schema;
// [Default] returns every default.
package config

import (
	"net/netip"
	"regexp"
)

// Config is a whole, checked configuration. It is immutable after [Load].
type Config struct {
	Auth       Auth       `key:"auth"`
	ACL        ACL        `key:"acl"`
	Inspection Inspection `key:"inspection"`
	RateLimit  RateLimit  `key:"rate-limit"`
	QoS        QoS        `key:"qos"`
	Retained   Retained   `key:"retained"`
	General    General    `key:"general"`
	Agent      Agent      `key:"agent"`
	Broker     Broker     `key:"broker"`
	Gateway    Gateway    `key:"gateway"`
	Audit      Audit      `key:"audit"`
	Admin      Admin      `key:"admin"`
}

// Secret is a string that never prints itself.
type Secret string

func (Secret) String() string   { return "***" }
func (Secret) GoString() string { return "***" }

// Regexp is a compiled regular expression that remembers nothing else. Nil
// means not given.
type Regexp = *regexp.Regexp

// Prefix is an address or a CIDR range; a single address is a full-length
// prefix. The zero value means not given.
type Prefix = netip.Prefix

// Auth is the section "auth".
type Auth struct {
	Enabled           bool       `key:"enabled"`
	AllowAnonymous    bool       `key:"allow-anonymous"`
	Providers         []Provider `key:"providers"`
	ClientIDPattern   Regexp     `key:"client-id-pattern"` // anchored when bound: matches the whole id
	MinClientIDLength int        `key:"min-client-id-length"`
	MaxClientIDLength int        `key:"max-client-id-length"`
	ClientIDTemplate  string     `key:"client-id-template"`
	Takeover          string     `key:"takeover" enum:"same-identity,any"`
	FailureLockout    Lockout    `key:"failure-lockout"` // false in the file: Attempts 0
	BannedFile        string     `key:"banned-file"`
}

// Lockout is "auth.failure-lockout". Attempts 0 means off.
type Lockout struct {
	Attempts    int    `key:"attempts"`
	WindowSecs  int    `key:"window-secs"`
	LockoutSecs int    `key:"lockout-secs"`
	By          string `key:"by" enum:"client_ip+username,client_ip,username"`
}

// Provider is one entry of "auth.providers". Which fields count depends on
// Type; the binder refuses a key that another type owns.
type Provider struct {
	Type string `key:"type" enum:"file,jwt,certificate,http"`
	Name string `key:"name"`

	// file
	Path      string `key:"path" for:"file"`
	HotReload bool   `key:"hot-reload" for:"file"`

	// file, http
	CacheTTLSecs int `key:"cache-ttl-secs" for:"file,http"`

	// jwt
	Issuer             string   `key:"issuer" for:"jwt"`
	Audience           string   `key:"audience" for:"jwt"`
	Secret             Secret   `key:"secret" for:"jwt"`
	PublicKeyFile      string   `key:"public-key-file" for:"jwt"`
	JWKSURL            string   `key:"jwks-url" for:"jwt"`
	JWKSRefreshSecs    int      `key:"jwks-refresh-secs" for:"jwt"`
	Algorithms         []string `key:"algorithms" for:"jwt"`
	UsernameClaim      string   `key:"username-claim" for:"jwt"`
	GroupsClaim        string   `key:"groups-claim" for:"jwt"`
	LeewaySecs         int      `key:"leeway-secs" for:"jwt"`
	DisconnectOnExpiry bool     `key:"disconnect-on-expiry" for:"jwt"`
	RequireExpiry      bool     `key:"require-expiry" for:"jwt"`

	// jwt, certificate
	MatchUsername bool `key:"match-username" for:"jwt,certificate"`

	// certificate
	ExtractFrom   string       `key:"extract-from" for:"certificate" enum:"common_name,subject_alternative_name,san_dns,san_uri,san_email,serial_number"`
	GroupsFrom    string       `key:"groups-from" for:"certificate" enum:"organizational_unit"`
	GroupsAllowed []string     `key:"groups-allowed" for:"certificate"`
	Source        string       `key:"source" for:"certificate" enum:"tls,proxy-tlv"`
	Header        CertHeader   `key:"header" for:"certificate"`
	HeaderSecret  HeaderSecret `key:"header-secret" for:"certificate"`

	// http
	URL       string            `key:"url" for:"http"`
	TimeoutMS int               `key:"timeout-ms" for:"http"`
	Headers   map[string]Secret `key:"headers" for:"http"`
	AllowHTTP bool              `key:"allow-http" for:"http"`
}

// CertHeader is "header" of a certificate provider.
type CertHeader struct {
	Name   string `key:"name"`
	Format string `key:"format" enum:"pem-urlencoded,subject,xfcc"`
}

// HeaderSecret is "header-secret" of a certificate provider.
type HeaderSecret struct {
	Header string `key:"header"`
	Value  Secret `key:"value"`
}

// ACL is the section "acl". Rules holds the file's rules followed by those of
// RulesFile, each group in file order, not yet sorted by priority.
type ACL struct {
	Enabled            bool   `key:"enabled"`
	DefaultAction      string `key:"default-action" enum:"allow,deny"`
	Rules              []Rule `key:"rules"`
	RulesFile          string `key:"rules-file"`
	CacheDecisions     bool   `key:"cache-decisions"`
	SubscribeMode      string `key:"subscribe-mode" enum:"auto,strict,filter"`
	CheckResponseTopic bool   `key:"check-response-topic"`
	OnDeniedWill       string `key:"on-denied-will" enum:"refuse,remove"`
}

// Rule is one entry of "acl.rules". Label is what audit and explain call it:
// its name, or "rules[3]" by its place in the file.
type Rule struct {
	Name        string   `key:"name"`
	Match       Match    `key:"match"`
	Topics      []string `key:"topics"`
	Actions     []string `key:"actions" enum:"publish,subscribe,unsubscribe,connect"` // empty: publish and subscribe
	Decision    string   `key:"decision" enum:"allow,deny"`
	MaxQoS      *int     `key:"max-qos"`
	AllowRetain *bool    `key:"allow-retain"`
	Priority    int      `key:"priority"`

	Label string // set by Load
}

// Match is "match" of a rule: all given ones must hold. Zero means not given.
type Match struct {
	Username        string            `key:"username"`
	UsernameRegex   Regexp            `key:"username-regex"`
	ClientID        string            `key:"client-id"`
	ClientIDRegex   Regexp            `key:"client-id-regex"`
	ClientIP        Prefix            `key:"client-ip"`
	Groups          []string          `key:"groups"`
	ProtocolVersion int               `key:"protocol-version"` // 0, 3, 4, 5
	Listener        string            `key:"listener"`
	Attributes      map[string]string `key:"attributes"`
}

// Inspection is the section "inspection".
type Inspection struct {
	Enabled        bool          `key:"enabled"`
	MaxPayloadSize int           `key:"max-payload-size"`
	Patterns       Patterns      `key:"patterns"`
	Sensitivity    string        `key:"sensitivity" enum:"relaxed,balanced,strict"`
	BlockSeverity  string        `key:"block-severity" enum:"low,medium,high,critical"`
	BlockBinary    bool          `key:"block-binary"`
	ExcludeTopics  []string      `key:"exclude-topics"`
	Topics         []string      `key:"topics"`
	JSONSchema     []JSONSchema  `key:"json-schema"` // an object or a list of such in the file
	Payload        []PayloadRule `key:"payload"`
	Deliveries     bool          `key:"deliveries"`
}

// Switch is true | false | "audit" of an inspection family.
type Switch uint8

// The values of a Switch.
const (
	SwitchOff Switch = iota
	SwitchAudit
	SwitchOn
)

// Patterns is "inspection.patterns".
type Patterns struct {
	SQLi              Switch          `key:"sqli"`
	CommandInjection  Switch          `key:"command-injection"`
	ScriptInjection   Switch          `key:"script-injection"`
	PathTraversal     Switch          `key:"path-traversal"`
	TemplateInjection Switch          `key:"template-injection"`
	Custom            []CustomPattern `key:"custom-patterns"`
}

// CustomPattern is one entry of "custom-patterns".
type CustomPattern struct {
	Name     string `key:"name"`
	Pattern  Regexp `key:"pattern"`
	Severity string `key:"severity" enum:"low,medium,high,critical"`
}

// JSONSchema is one schema with the topics it governs.
type JSONSchema struct {
	SchemaFile     string   `key:"schema-file"`
	Topics         []string `key:"topics"`
	BlockOnFailure bool     `key:"block-on-failure"`
}

// PayloadRule is one entry of "inspection.payload".
type PayloadRule struct {
	Topics    []string    `key:"topics"`
	Format    string      `key:"format" enum:"json,text,number,boolean,cbor,msgpack,sparkplug-b,binary"`
	MaxSize   int         `key:"max-size"`
	MaxDepth  int         `key:"max-depth"`
	Fields    []FieldRule `key:"fields"`
	OnFailure string      `key:"on-failure" enum:"block,audit"`
}

// FieldRule is one entry of "fields" of a payload rule.
type FieldRule struct {
	At     string   `key:"at"`
	Min    *float64 `key:"min"`
	Max    *float64 `key:"max"`
	In     []string `key:"in"`
	Equals string   `key:"equals"`
}

// Limit is a token bucket as written in the file.
type Limit struct {
	MessagesPerSecond float64 `key:"messages-per-second"`
	BytesPerSecond    float64 `key:"bytes-per-second"`
	Burst             int     `key:"burst"`
	BurstBytes        int     `key:"burst-bytes"`
}

// RateLimit is the section "rate-limit".
type RateLimit struct {
	Enabled           bool         `key:"enabled"`
	PerClient         *Limit       `key:"per-client"`
	PerTopic          []TopicLimit `key:"per-topic"`
	Global            *Limit       `key:"global"`
	KeyBy             string       `key:"key-by" enum:"client_id,username,client_ip"`
	OnExceed          string       `key:"on-exceed" enum:"auto,drop,close,delay"`
	MaxDelayMS        int          `key:"max-delay-ms"`
	ConnectsPerSecond float64      `key:"connects-per-second"`
	Store             Store        `key:"store"`
}

// TopicLimit is one entry of "per-topic".
type TopicLimit struct {
	Topic string `key:"topic"`
	Limit Limit  `key:"limit"`
	Scope string `key:"scope" enum:"shared,client"`
}

// Store is "rate-limit.store".
type Store struct {
	Type             string `key:"type" enum:"local,redis"`
	URL              Secret `key:"url"`
	Prefix           string `key:"prefix"`
	LeaseMS          int    `key:"lease-ms"`
	ExpectedGateways int    `key:"expected-gateways"`
}

// QoS is the section "qos".
type QoS struct {
	Enabled   bool       `key:"enabled"`
	MaxQoS    int        `key:"max-qos"`
	Downgrade bool       `key:"downgrade"`
	PerTopic  []TopicQoS `key:"per-topic"`
}

// TopicQoS is one entry of "qos.per-topic".
type TopicQoS struct {
	Topic  string `key:"topic"`
	MaxQoS int    `key:"max-qos"`
}

// Retained is the section "retained".
type Retained struct {
	Enabled       bool     `key:"enabled"`
	AllowRetained bool     `key:"allow-retained"`
	AllowedTopics []string `key:"allowed-topics"`
	BlockedTopics []string `key:"blocked-topics"`
	MaxSize       int      `key:"max-size"` // 0: no limit
	OnDenied      string   `key:"on-denied" enum:"drop,strip"`
}

// General is the section "general".
type General struct {
	BlockMode           bool     `key:"block-mode"`
	FailOpen            bool     `key:"fail-open"`
	LogPackets          bool     `key:"log-packets"`
	ProtocolVersions    []string `key:"protocol-versions" enum:"3.1,3.1.1,5.0"`
	MaxConnectionsPerIP int      `key:"max-connections-per-ip"`
	ConnectTimeoutSecs  int      `key:"connect-timeout-secs"`
	MaxPacketSize       int      `key:"max-packet-size"`
	MaxDeliverySize     int      `key:"max-delivery-size"`
	MaxConnections      int      `key:"max-connections"`
	Watch               string   `key:"watch" enum:"files,all,none"`
	Limits              Limits   `key:"limits"`
}

// Limits is "general.limits"; 0 means no limit.
type Limits struct {
	TopicBytes          int   `key:"topic-bytes"`
	TopicLevels         int   `key:"topic-levels"`
	FiltersPerSubscribe int   `key:"filters-per-subscribe"`
	Subscriptions       int   `key:"subscriptions"`
	UserProperties      int   `key:"user-properties"`
	KeepAliveSecs       int   `key:"keep-alive-secs"`
	SessionExpirySecs   int64 `key:"session-expiry-secs"`
	WillBytes           int   `key:"will-bytes"`
	WillDelaySecs       int64 `key:"will-delay-secs"`
	ReceiveMaximum      int   `key:"receive-maximum"`
	TopicAliases        int   `key:"topic-aliases"`
	OutstandingRequests int   `key:"outstanding-requests"`
	DenialsPerMinute    int   `key:"denials-per-minute"`
	PacketsPerSecond    int   `key:"packets-per-second"`
	PendingConnections  int   `key:"pending-connections"`
	PendingPerIP        int   `key:"pending-per-ip"`
	ConnectBytes        int   `key:"connect-bytes"`
	BufferBytes         int   `key:"buffer-bytes"`
}

// Agent is the section "agent".
type Agent struct {
	DecisionTimeoutMS   int      `key:"decision-timeout-ms"`
	OnDeny              string   `key:"on-deny" enum:"drop,close"`
	WebSocketExtensions string   `key:"websocket-extensions" enum:"refuse,allow"`
	RequireSubprotocol  bool     `key:"require-subprotocol"`
	Routes              []string `key:"routes"`
	MaxSessions         int      `key:"max-sessions"`
	SocketMode          string   `key:"socket-mode"` // octal
	SocketGroup         string   `key:"socket-group"`
	AcceptConfig        string   `key:"accept-config" enum:"socket,none,grpc"`
	GRPCTLS             GRPCTLS  `key:"grpc-tls"`
}

// GRPCTLS is "agent.grpc-tls".
type GRPCTLS struct {
	CertFile     string `key:"cert-file"`
	KeyFile      string `key:"key-file"`
	ClientCAFile string `key:"client-ca-file"`
}

// Broker is the section "broker": what health watches.
type Broker struct {
	URL               string `key:"url"`
	ProbeIntervalSecs int    `key:"probe-interval-secs"`
	ProbeTimeoutMS    int    `key:"probe-timeout-ms"`
	Username          string `key:"username"`
	Password          Secret `key:"password"`
}

// Gateway is the section "gateway".
type Gateway struct {
	Listeners        []Listener `key:"listeners"`
	Upstreams        []Upstream `key:"upstreams"`
	Balance          string     `key:"balance" enum:"first,round-robin,client-id-hash"`
	ConnectTimeoutMS int        `key:"connect-timeout-ms"`
	OnDeny           string     `key:"on-deny" enum:"ack,drop,disconnect"`
	RevokedWill      string     `key:"revoked-will" enum:"suppress,fire"`
	DrainWill        string     `key:"drain-will" enum:"fire,suppress"`
	WriteStallSecs   int        `key:"write-stall-secs"`
	IO               string     `key:"io" enum:"auto,loops,goroutines"` // which transport engine
}

// Listener is one entry of "gateway.listeners".
type Listener struct {
	Name           string        `key:"name"`    // default: its address
	Address        string        `key:"address"` // tcp://, tls://, ws://, wss:// host:port[/path]
	TLS            ListenerTLS   `key:"tls"`
	AllowedOrigins []string      `key:"allowed-origins"`
	ProxyProtocol  string        `key:"proxy-protocol" enum:"off,accept,require"`
	TrustedProxies []Prefix      `key:"trusted-proxies"`
	Auth           *ListenerAuth `key:"auth"`
}

// ListenerTLS is "tls" of a listener.
type ListenerTLS struct {
	CertFile     string `key:"cert-file"`
	KeyFile      string `key:"key-file"`
	ClientCAFile string `key:"client-ca-file"`
	CRLFile      string `key:"crl-file"`
	ClientAuth   string `key:"client-auth" enum:"none,request,require"`
	MinVersion   string `key:"min-version" enum:"1.2,1.3"`
}

// ListenerAuth is "auth" of a listener; nil AllowAnonymous inherits.
type ListenerAuth struct {
	AllowAnonymous *bool    `key:"allow-anonymous"`
	Providers      []string `key:"providers"`
}

// Upstream is one entry of "gateway.upstreams".
type Upstream struct {
	URL            string      `key:"url"` // mqtt:// or mqtts:// host:port
	TLS            UpstreamTLS `key:"tls"`
	Credentials    string      `key:"credentials" enum:",pass,replace,strip"` // "": by the rule of the documentation
	Username       string      `key:"username"`
	Password       Secret      `key:"password"`
	ClientID       string      `key:"client-id"`
	MaxConnections int         `key:"max-connections"`
	ProxyProtocol  string      `key:"proxy-protocol" enum:"off,v1,v2"`
}

// UpstreamTLS is "tls" of an upstream.
type UpstreamTLS struct {
	CAFile     string `key:"ca-file"`
	CertFile   string `key:"cert-file"`
	KeyFile    string `key:"key-file"`
	ServerName string `key:"server-name"`
	Insecure   bool   `key:"insecure"`
}

// Audit is the section "audit".
type Audit struct {
	Output         string `key:"output"` // stdout, stderr, syslog or a file's path
	Include        string `key:"include" enum:"all,denied"`
	PayloadExcerpt int    `key:"payload-excerpt"` // bytes
	HashChain      bool   `key:"hash-chain"`
}

// Admin is the section "admin".
type Admin struct {
	Address      string   `key:"address"` // "": off
	Console      bool     `key:"console"`
	Token        Secret   `key:"token"`
	AllowedHosts []string `key:"allowed-hosts"`
}

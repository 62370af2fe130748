// Package config reads, checks and describes the configuration.
//
// Start with [Load]: bytes → positioned tree → bind (types, unknown keys) →
// check (meaning). Every step adds to one list of errors, each with its place;
// nothing alive is touched. The types in this file are the whole schema;
// [Default] returns every default.
//
// The tags of a field are its part of the schema:
//
//	key       its name in the file; a field without one is not in the file
//	enum      the accepted words
//	accept    the accepted numbers
//	min, max  the accepted range, both inclusive ("any": no bound; a number
//	          without tags is 0 or more)
//	is        a check of the value by name, see valueChecks
//	need      the key must be given
//	nonempty  given means not empty: an empty condition must not read as none
//	for       the values of the sibling key "type" that own this key
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

	origin *origin // what [Merge] starts from, nil for none
}

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
	ClientIDPattern   Regexp     `key:"client-id-pattern" is:"anchored" nonempty:"true"` // anchored when bound: matches the whole id
	MinClientIDLength int        `key:"min-client-id-length" min:"0" max:"65535"`
	MaxClientIDLength int        `key:"max-client-id-length" min:"1" max:"65535"`
	ClientIDTemplate  string     `key:"client-id-template" is:"client-id-template" nonempty:"true"`
	Takeover          string     `key:"takeover" enum:"same-identity,any"`
	FailureLockout    Lockout    `key:"failure-lockout"` // false in the file: Attempts 0
	BannedFile        string     `key:"banned-file" is:"file" nonempty:"true"`
}

// Lockout is "auth.failure-lockout". Attempts 0 means off.
type Lockout struct {
	Attempts    int    `key:"attempts" min:"1" max:"1000000"`
	WindowSecs  int    `key:"window-secs" min:"1" max:"86400"`
	LockoutSecs int    `key:"lockout-secs" min:"1" max:"86400"`
	By          string `key:"by" enum:"client_ip+username,client_ip,username"`
}

// Provider is one entry of "auth.providers". Which fields count depends on
// Type; the binder refuses a key that another type owns.
type Provider struct {
	Type string `key:"type" enum:"file,jwt,certificate,http" need:"true"`
	Name string `key:"name"`

	// file
	Path      string `key:"path" for:"file" is:"file" need:"true"`
	HotReload bool   `key:"hot-reload" for:"file"`

	// file, http
	CacheTTLSecs int `key:"cache-ttl-secs" for:"file,http" min:"0" max:"86400"`

	// jwt
	Issuer             string   `key:"issuer" for:"jwt" nonempty:"true"`
	Audience           string   `key:"audience" for:"jwt" nonempty:"true"`
	Secret             Secret   `key:"secret" for:"jwt"`
	PublicKeyFile      string   `key:"public-key-file" for:"jwt" is:"file"`
	JWKSURL            string   `key:"jwks-url" for:"jwt" is:"https-url"`
	JWKSRefreshSecs    int      `key:"jwks-refresh-secs" for:"jwt" min:"10" max:"86400"`
	Algorithms         []string `key:"algorithms" for:"jwt" enum:"HS256,HS384,HS512,RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" nonempty:"true"`
	UsernameClaim      string   `key:"username-claim" for:"jwt" is:"claim" nonempty:"true"`
	GroupsClaim        string   `key:"groups-claim" for:"jwt" is:"claim" nonempty:"true"`
	LeewaySecs         int      `key:"leeway-secs" for:"jwt" min:"0" max:"3600"`
	DisconnectOnExpiry bool     `key:"disconnect-on-expiry" for:"jwt"`
	RequireExpiry      bool     `key:"require-expiry" for:"jwt"`

	// jwt, certificate
	MatchUsername bool `key:"match-username" for:"jwt,certificate"`

	// certificate
	ExtractFrom   string       `key:"extract-from" for:"certificate" enum:"common_name,subject_alternative_name,san_dns,san_uri,san_email,serial_number"`
	GroupsFrom    string       `key:"groups-from" for:"certificate" enum:"organizational_unit"`
	GroupsAllowed []string     `key:"groups-allowed" for:"certificate" nonempty:"true"`
	Source        string       `key:"source" for:"certificate" enum:"tls,proxy-tlv"`
	Header        CertHeader   `key:"header" for:"certificate"`
	HeaderSecret  HeaderSecret `key:"header-secret" for:"certificate"`

	// http
	URL       string            `key:"url" for:"http" is:"web-url" need:"true"`
	TimeoutMS int               `key:"timeout-ms" for:"http" min:"1" max:"60000"`
	Headers   map[string]Secret `key:"headers" for:"http" is:"header-name"`
	AllowHTTP bool              `key:"allow-http" for:"http"`
}

// CertHeader is "header" of a certificate provider.
type CertHeader struct {
	Name   string `key:"name" is:"header-name" need:"true"`
	Format string `key:"format" enum:"pem-urlencoded,subject,xfcc" need:"true"`
}

// HeaderSecret is "header-secret" of a certificate provider.
type HeaderSecret struct {
	Header string `key:"header" is:"header-name" need:"true"`
	Value  Secret `key:"value" need:"true"`
}

// ACL is the section "acl". Rules holds the file's rules followed by those of
// RulesFile, each group in file order, not yet sorted by priority.
type ACL struct {
	Enabled            bool   `key:"enabled"`
	DefaultAction      string `key:"default-action" enum:"allow,deny"`
	Rules              []Rule `key:"rules"`
	RulesFile          string `key:"rules-file" is:"file" nonempty:"true"`
	CacheDecisions     bool   `key:"cache-decisions"`
	SubscribeMode      string `key:"subscribe-mode" enum:"auto,strict,filter"`
	CheckResponseTopic bool   `key:"check-response-topic"`
	OnDeniedWill       string `key:"on-denied-will" enum:"refuse,remove"`
}

// Rule is one entry of "acl.rules". Label is what audit and explain call it:
// its name, or "rules[3]" by its place in the file.
type Rule struct {
	Name        string   `key:"name" nonempty:"true"`
	Match       Match    `key:"match"`
	Topics      []string `key:"topics" is:"rule-filter"`
	Actions     []string `key:"actions" enum:"publish,subscribe,unsubscribe,connect"` // empty: publish and subscribe
	Decision    string   `key:"decision" enum:"allow,deny" need:"true"`
	MaxQoS      *int     `key:"max-qos" min:"0" max:"2"`
	AllowRetain *bool    `key:"allow-retain"`
	Priority    int      `key:"priority" min:"-1000000000" max:"1000000000"`

	Label string // set by Load
}

// Match is "match" of a rule: all given ones must hold. Zero means not given.
type Match struct {
	Username        string            `key:"username" nonempty:"true"`
	UsernameRegex   Regexp            `key:"username-regex" nonempty:"true"`
	ClientID        string            `key:"client-id" nonempty:"true"`
	ClientIDRegex   Regexp            `key:"client-id-regex" nonempty:"true"`
	ClientIP        Prefix            `key:"client-ip" nonempty:"true"`
	Groups          []string          `key:"groups" nonempty:"true"`
	ProtocolVersion int               `key:"protocol-version" accept:"3,4,5"` // 0, 3, 4, 5
	Listener        string            `key:"listener" nonempty:"true"`
	Attributes      map[string]string `key:"attributes" nonempty:"true"`
}

// Inspection is the section "inspection".
type Inspection struct {
	Enabled        bool          `key:"enabled"`
	MaxPayloadSize int           `key:"max-payload-size" min:"0" max:"268435460"`
	Patterns       Patterns      `key:"patterns"`
	Sensitivity    string        `key:"sensitivity" enum:"relaxed,balanced,strict"`
	BlockSeverity  string        `key:"block-severity" enum:"low,medium,high,critical"`
	BlockBinary    bool          `key:"block-binary"`
	ExcludeTopics  []string      `key:"exclude-topics" is:"filter"`
	Topics         []string      `key:"topics" is:"filter" nonempty:"true"`
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
	Name     string `key:"name" need:"true"`
	Pattern  Regexp `key:"pattern" need:"true"`
	Severity string `key:"severity" enum:"low,medium,high,critical"`
}

// JSONSchema is one schema with the topics it governs.
type JSONSchema struct {
	SchemaFile     string   `key:"schema-file" is:"file" need:"true"`
	Topics         []string `key:"topics" is:"filter" need:"true"`
	BlockOnFailure bool     `key:"block-on-failure"`
}

// PayloadRule is one entry of "inspection.payload".
type PayloadRule struct {
	Topics    []string    `key:"topics" is:"filter" need:"true"`
	Format    string      `key:"format" enum:"json,text,number,boolean,cbor,msgpack,sparkplug-b,binary"`
	MaxSize   int         `key:"max-size" min:"0" max:"268435460"`
	MaxDepth  int         `key:"max-depth" min:"0" max:"10000"`
	Fields    []FieldRule `key:"fields"`
	OnFailure string      `key:"on-failure" enum:"block,audit"`
}

// FieldRule is one entry of "fields" of a payload rule.
type FieldRule struct {
	At     string   `key:"at" is:"json-pointer" need:"true"`
	Min    *float64 `key:"min" min:"any" max:"any"`
	Max    *float64 `key:"max" min:"any" max:"any"`
	In     []string `key:"in" nonempty:"true"`
	Equals string   `key:"equals"`
}

// Limit is a token bucket as written in the file.
type Limit struct {
	MessagesPerSecond float64 `key:"messages-per-second" min:"0" max:"1000000000"`
	BytesPerSecond    float64 `key:"bytes-per-second" min:"0" max:"1000000000000"`
	Burst             int     `key:"burst" min:"1" max:"1000000000"`
	BurstBytes        int     `key:"burst-bytes" min:"1" max:"1000000000000"`
}

// RateLimit is the section "rate-limit".
type RateLimit struct {
	Enabled           bool         `key:"enabled"`
	PerClient         *Limit       `key:"per-client"`
	PerTopic          []TopicLimit `key:"per-topic"`
	Global            *Limit       `key:"global"`
	KeyBy             string       `key:"key-by" enum:"client_id,username,client_ip"`
	OnExceed          string       `key:"on-exceed" enum:"auto,drop,close,delay"`
	MaxDelayMS        int          `key:"max-delay-ms" min:"0" max:"60000"`
	ConnectsPerSecond float64      `key:"connects-per-second" min:"0" max:"1000000000"`
	Store             Store        `key:"store"`
}

// TopicLimit is one entry of "per-topic".
type TopicLimit struct {
	Topic string `key:"topic" is:"filter" need:"true"`
	Limit Limit  `key:"limit" need:"true"`
	Scope string `key:"scope" enum:"shared,client"`
}

// Store is "rate-limit.store".
type Store struct {
	Type             string `key:"type" enum:"local,redis"`
	URL              Secret `key:"url"`
	Prefix           string `key:"prefix"`
	LeaseMS          int    `key:"lease-ms" min:"1" max:"60000"`
	ExpectedGateways int    `key:"expected-gateways" min:"1" max:"1000"`
}

// QoS is the section "qos".
type QoS struct {
	Enabled   bool       `key:"enabled"`
	MaxQoS    int        `key:"max-qos" min:"0" max:"2"`
	Downgrade bool       `key:"downgrade"`
	PerTopic  []TopicQoS `key:"per-topic"`
}

// TopicQoS is one entry of "qos.per-topic".
type TopicQoS struct {
	Topic  string `key:"topic" is:"filter" need:"true"`
	MaxQoS int    `key:"max-qos" min:"0" max:"2" need:"true"`
}

// Retained is the section "retained".
type Retained struct {
	Enabled       bool     `key:"enabled"`
	AllowRetained bool     `key:"allow-retained"`
	AllowedTopics []string `key:"allowed-topics" is:"filter"`
	BlockedTopics []string `key:"blocked-topics" is:"filter"`
	MaxSize       int      `key:"max-size" min:"0" max:"268435460"` // 0: no limit
	OnDenied      string   `key:"on-denied" enum:"drop,strip"`
}

// General is the section "general".
type General struct {
	BlockMode           bool     `key:"block-mode"`
	FailOpen            bool     `key:"fail-open"`
	LogPackets          bool     `key:"log-packets"`
	ProtocolVersions    []string `key:"protocol-versions" enum:"3.1,3.1.1,5.0" nonempty:"true"`
	MaxConnectionsPerIP int      `key:"max-connections-per-ip" min:"0" max:"10000000"`
	ConnectTimeoutSecs  int      `key:"connect-timeout-secs" min:"1" max:"3600"`
	MaxPacketSize       int      `key:"max-packet-size" min:"16" max:"268435460"`
	MaxDeliverySize     int      `key:"max-delivery-size" min:"16" max:"268435460"`
	MaxConnections      int      `key:"max-connections" min:"0" max:"10000000"`
	Watch               string   `key:"watch" enum:"files,all,none"`
	Limits              Limits   `key:"limits"`
}

// Limits is "general.limits"; 0 means no limit.
type Limits struct {
	TopicBytes          int   `key:"topic-bytes" min:"0" max:"65535"`
	TopicLevels         int   `key:"topic-levels" min:"0" max:"65536"`
	FiltersPerSubscribe int   `key:"filters-per-subscribe" min:"0" max:"1000000"`
	Subscriptions       int   `key:"subscriptions" min:"0" max:"100000000"`
	UserProperties      int   `key:"user-properties" min:"0" max:"1000000"`
	KeepAliveSecs       int   `key:"keep-alive-secs" min:"0" max:"65535"`
	SessionExpirySecs   int64 `key:"session-expiry-secs" min:"0" max:"4294967295"`
	WillBytes           int   `key:"will-bytes" min:"0" max:"268435460"`
	WillDelaySecs       int64 `key:"will-delay-secs" min:"0" max:"4294967295"`
	ReceiveMaximum      int   `key:"receive-maximum" min:"0" max:"65535"`
	TopicAliases        int   `key:"topic-aliases" min:"0" max:"65535"`
	OutstandingRequests int   `key:"outstanding-requests" min:"0" max:"65535"`
	DenialsPerMinute    int   `key:"denials-per-minute" min:"0" max:"1000000000"`
	PacketsPerSecond    int   `key:"packets-per-second" min:"0" max:"1000000000"`
	PendingConnections  int   `key:"pending-connections" min:"0" max:"10000000"`
	PendingPerIP        int   `key:"pending-per-ip" min:"0" max:"10000000"`
	ConnectBytes        int   `key:"connect-bytes" min:"0" max:"268435460"`
	BufferBytes         int   `key:"buffer-bytes" min:"0" max:"1099511627776"`
}

// Agent is the section "agent".
type Agent struct {
	DecisionTimeoutMS   int      `key:"decision-timeout-ms" min:"1" max:"60000"`
	OnDeny              string   `key:"on-deny" enum:"drop,close"`
	WebSocketExtensions string   `key:"websocket-extensions" enum:"refuse,allow"`
	RequireSubprotocol  bool     `key:"require-subprotocol"`
	Routes              []string `key:"routes" is:"nonempty"`
	MaxSessions         int      `key:"max-sessions" min:"1" max:"100000000"`
	SocketMode          string   `key:"socket-mode" is:"octal"` // octal
	SocketGroup         string   `key:"socket-group" nonempty:"true"`
	AcceptConfig        string   `key:"accept-config" enum:"socket,none,grpc"`
	GRPCTLS             GRPCTLS  `key:"grpc-tls"`
}

// GRPCTLS is "agent.grpc-tls".
type GRPCTLS struct {
	CertFile     string `key:"cert-file" is:"file"`
	KeyFile      string `key:"key-file" is:"file"`
	ClientCAFile string `key:"client-ca-file" is:"file" nonempty:"true"`
}

// Broker is the section "broker": what health watches.
type Broker struct {
	URL               string `key:"url" is:"broker-url"`
	ProbeIntervalSecs int    `key:"probe-interval-secs" min:"1" max:"86400"`
	ProbeTimeoutMS    int    `key:"probe-timeout-ms" min:"1" max:"60000"`
	Username          string `key:"username"`
	Password          Secret `key:"password"`
}

// Gateway is the section "gateway".
type Gateway struct {
	Listeners        []Listener `key:"listeners"`
	Upstreams        []Upstream `key:"upstreams"`
	Balance          string     `key:"balance" enum:"first,round-robin,client-id-hash"`
	ConnectTimeoutMS int        `key:"connect-timeout-ms" min:"1" max:"600000"`
	OnDeny           string     `key:"on-deny" enum:"ack,drop,disconnect"`
	RevokedWill      string     `key:"revoked-will" enum:"suppress,fire"`
	DrainWill        string     `key:"drain-will" enum:"fire,suppress"`
	WriteStallSecs   int        `key:"write-stall-secs" min:"1" max:"86400"`
	IO               string     `key:"io" enum:"auto,loops,goroutines"` // which transport engine
}

// Listener is one entry of "gateway.listeners".
type Listener struct {
	Name           string        `key:"name" nonempty:"true"`                    // default: its address
	Address        string        `key:"address" is:"listen-address" need:"true"` // tcp://, tls://, ws://, wss:// host:port[/path]
	TLS            ListenerTLS   `key:"tls"`
	AllowedOrigins []string      `key:"allowed-origins" is:"origin"`
	ProxyProtocol  string        `key:"proxy-protocol" enum:"off,accept,require"`
	TrustedProxies []Prefix      `key:"trusted-proxies"`
	Auth           *ListenerAuth `key:"auth"`
}

// ListenerTLS is "tls" of a listener.
type ListenerTLS struct {
	CertFile     string `key:"cert-file" is:"file"`
	KeyFile      string `key:"key-file" is:"file"`
	ClientCAFile string `key:"client-ca-file" is:"file" nonempty:"true"`
	CRLFile      string `key:"crl-file" is:"file" nonempty:"true"`
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
	URL            string      `key:"url" is:"upstream-url" need:"true"` // mqtt:// or mqtts:// host:port
	TLS            UpstreamTLS `key:"tls"`
	Credentials    string      `key:"credentials" enum:"pass,replace,strip"` // "": by the rule of the documentation
	Username       string      `key:"username" is:"upstream-username" nonempty:"true"`
	Password       Secret      `key:"password"`
	ClientID       string      `key:"client-id" is:"client-id-out" nonempty:"true"`
	MaxConnections int         `key:"max-connections" min:"0" max:"10000000"`
	ProxyProtocol  string      `key:"proxy-protocol" enum:"off,v1,v2"`
}

// UpstreamTLS is "tls" of an upstream.
type UpstreamTLS struct {
	CAFile     string `key:"ca-file" is:"file" nonempty:"true"`
	CertFile   string `key:"cert-file" is:"file"`
	KeyFile    string `key:"key-file" is:"file"`
	ServerName string `key:"server-name" nonempty:"true"`
	Insecure   bool   `key:"insecure"`
}

// Audit is the section "audit".
type Audit struct {
	Output         string `key:"output" is:"output" nonempty:"true"` // stdout, stderr, syslog or a file's path
	Include        string `key:"include" enum:"all,denied"`
	PayloadExcerpt int    `key:"payload-excerpt" min:"0" max:"65536"` // bytes
	HashChain      bool   `key:"hash-chain"`
}

// Admin is the section "admin".
type Admin struct {
	Address      string   `key:"address" is:"admin-address"` // "": off
	Console      bool     `key:"console"`
	Token        Secret   `key:"token"`
	AllowedHosts []string `key:"allowed-hosts" is:"nonempty"`
}

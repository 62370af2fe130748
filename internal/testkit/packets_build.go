package testkit

import (
	"bytes"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// Raw builds a packet: its first byte, its Remaining Length, its body.
func Raw(first byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(append([]byte{first}, VarInt(len(body))...), body...)
}

// VarInt is a variable byte integer in its shortest form.
func VarInt(n int) (b []byte) {
	for {
		digit := byte(n % 128)
		n /= 128
		if n == 0 {
			return append(b, digit)
		}
		b = append(b, digit|128)
	}
}

// Str is a string or binary data with its two bytes of length.
func Str(s string) []byte { return append(U16(len(s)), s...) }

// U16 is a number of two bytes.
func U16(n int) []byte { return []byte{byte(n >> 8), byte(n)} }

// U32 is a number of four bytes.
func U32(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// Props is a property section: its length, then the properties.
func Props(properties ...[]byte) []byte {
	b := bytes.Join(properties, nil)
	return append(VarInt(len(b)), b...)
}

// Prop8 is a property of one byte.
func Prop8(id mqtt.PropertyID, n byte) []byte { return []byte{byte(id), n} }

// Prop16 is a property of two bytes.
func Prop16(id mqtt.PropertyID, n int) []byte { return append([]byte{byte(id)}, U16(n)...) }

// Prop32 is a property of four bytes.
func Prop32(id mqtt.PropertyID, n uint32) []byte { return append([]byte{byte(id)}, U32(n)...) }

// PropVar is a property whose value is a variable byte integer.
func PropVar(id mqtt.PropertyID, n int) []byte { return append([]byte{byte(id)}, VarInt(n)...) }

// PropStr is a property whose value is a string or binary data.
func PropStr(id mqtt.PropertyID, s string) []byte { return append([]byte{byte(id)}, Str(s)...) }

// PropUser is a user property.
func PropUser(name, value string) []byte {
	return bytes.Join([][]byte{{byte(mqtt.UserProperty)}, Str(name), Str(value)}, nil)
}

// options is what the options of the builders set.
type options struct {
	flags      byte // of CONNECT, or of PUBLISH's fixed header
	level      byte // of CONNECT, when not the version's
	keepAlive  int
	properties [][]byte
	willProps  [][]byte
	willTopic  string
	will       string
	user       string
	password   string
}

// Option changes what a builder builds. Which ones a builder heeds says its
// comment.
type Option func(*options)

// With adds properties, made by Prop8 and its like. 3.x has none and they are
// left out.
func With(properties ...[]byte) Option {
	return func(o *options) { o.properties = append(o.properties, properties...) }
}

// Will gives a CONNECT a will.
func Will(topic, payload string, qos byte, retain bool, properties ...[]byte) Option {
	return func(o *options) {
		o.flags |= 0x04 | qos<<3
		if retain {
			o.flags |= 0x20
		}
		o.willTopic, o.will, o.willProps = topic, payload, properties
	}
}

// User gives a CONNECT a user name.
func User(name string) Option {
	return func(o *options) { o.flags |= 0x80; o.user = name }
}

// Password gives a CONNECT a password.
func Password(password string) Option {
	return func(o *options) { o.flags |= 0x40; o.password = password }
}

// KeepAlive sets the keep alive of a CONNECT, in seconds; else it is 60.
func KeepAlive(seconds int) Option { return func(o *options) { o.keepAlive = seconds } }

// Resume clears Clean Start of a CONNECT.
func Resume() Option { return func(o *options) { o.flags &^= 0x02 } }

// Flags sets bits: of a CONNECT's flags, of a PUBLISH's fixed header.
func Flags(bits byte) Option { return func(o *options) { o.flags |= bits } }

// Retain sets RETAIN of a PUBLISH.
func Retain() Option { return Flags(0x01) }

// Dup sets DUP of a PUBLISH.
func Dup() Option { return Flags(0x08) }

// Level sets the protocol level of a CONNECT, whatever its version.
func Level(level byte) Option { return func(o *options) { o.level = level } }

func apply(o options, opts []Option) options {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// section is a property section, or nothing before 5.0.
func section(v mqtt.Version, properties ...[]byte) []byte {
	if v != mqtt.V5 {
		return nil
	}
	return Props(properties...)
}

// Connect builds a CONNECT with Clean Start. It heeds With, Will, User,
// Password, KeepAlive, Resume, Flags and Level.
func Connect(v mqtt.Version, id string, opts ...Option) []byte {
	o := apply(options{flags: 0x02, keepAlive: 60, level: byte(v)}, opts)
	name := "MQTT"
	if v == mqtt.V31 {
		name = "MQIsdp"
	}
	parts := [][]byte{Str(name), {o.level, o.flags}, U16(o.keepAlive), section(v, o.properties...), Str(id)}
	if o.flags&0x04 != 0 {
		parts = append(parts, section(v, o.willProps...), Str(o.willTopic), Str(o.will))
	}
	if o.flags&0x80 != 0 {
		parts = append(parts, Str(o.user))
	}
	if o.flags&0x40 != 0 {
		parts = append(parts, Str(o.password))
	}
	return Raw(0x10, parts...)
}

// Connack builds a CONNACK. It heeds With.
func Connack(v mqtt.Version, sessionPresent bool, code byte, opts ...Option) []byte {
	o := apply(options{}, opts)
	present := byte(0)
	if sessionPresent {
		present = 1
	}
	return Raw(0x20, []byte{present, code}, section(v, o.properties...))
}

// Publish builds a PUBLISH; id is left out with QoS 0. It heeds With, Retain,
// Dup and Flags.
func Publish(v mqtt.Version, topic string, qos byte, id int, payload string, opts ...Option) []byte {
	o := apply(options{}, opts)
	parts := [][]byte{Str(topic)}
	if qos > 0 {
		parts = append(parts, U16(id))
	}
	parts = append(parts, section(v, o.properties...), []byte(payload))
	return Raw(0x30|qos<<1|o.flags, parts...)
}

// Ack builds a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form: with a
// code only if it is not 0, with properties only if there are some. It heeds
// With.
func Ack(v mqtt.Version, t mqtt.Type, id int, code byte, opts ...Option) []byte {
	first := byte(t) << 4
	if t == mqtt.PUBREL {
		first |= 2
	}
	return Raw(first, U16(id), tail(v, code, apply(options{}, opts)))
}

func tail(v mqtt.Version, code byte, o options) []byte {
	switch {
	case v != mqtt.V5, code == 0 && len(o.properties) == 0:
		return nil
	case len(o.properties) == 0:
		return []byte{code}
	}
	return append([]byte{code}, Props(o.properties...)...)
}

// Filter is one filter of a SUBSCRIBE with its options byte.
type Filter struct {
	Filter  string
	Options byte
}

// Subscribe builds a SUBSCRIBE for QoS 0.
func Subscribe(v mqtt.Version, id int, filters ...string) []byte {
	list := make([]Filter, len(filters))
	for i, f := range filters {
		list[i].Filter = f
	}
	return SubscribeWith(v, id, list)
}

// SubscribeWith builds a SUBSCRIBE. It heeds With.
func SubscribeWith(v mqtt.Version, id int, filters []Filter, opts ...Option) []byte {
	o := apply(options{}, opts)
	parts := [][]byte{U16(id), section(v, o.properties...)}
	for _, f := range filters {
		parts = append(parts, Str(f.Filter), []byte{f.Options})
	}
	return Raw(0x82, parts...)
}

// Unsubscribe builds an UNSUBSCRIBE.
func Unsubscribe(v mqtt.Version, id int, filters ...string) []byte {
	parts := [][]byte{U16(id), section(v)}
	for _, f := range filters {
		parts = append(parts, Str(f))
	}
	return Raw(0xA2, parts...)
}

// Suback builds a SUBACK.
func Suback(v mqtt.Version, id int, codes ...byte) []byte {
	return Raw(0x90, U16(id), section(v), codes)
}

// Unsuback builds an UNSUBACK; 3.x has no codes and they are left out.
func Unsuback(v mqtt.Version, id int, codes ...byte) []byte {
	if v != mqtt.V5 {
		codes = nil
	}
	return Raw(0xB0, U16(id), section(v), codes)
}

// Pingreq is a PINGREQ.
func Pingreq() []byte { return []byte{0xC0, 0} }

// Pingresp is a PINGRESP.
func Pingresp() []byte { return []byte{0xD0, 0} }

// Disconnect builds a DISCONNECT in its shortest form; 3.x has no code and it is
// left out. It heeds With.
func Disconnect(v mqtt.Version, code byte, opts ...Option) []byte {
	return Raw(0xE0, tail(v, code, apply(options{}, opts)))
}

// Auth builds an AUTH. It heeds With.
func Auth(code byte, opts ...Option) []byte {
	return Raw(0xF0, []byte{code}, Props(apply(options{}, opts).properties...))
}

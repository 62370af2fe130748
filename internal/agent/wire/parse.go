package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"unicode/utf8"
)

// object walks over the top level of a JSON object: f gets each key and its
// raw value. A byte that is not UTF-8, a repeated key with another value, or
// anything behind the object is an error. Keys are compared to the letter.
func object(b []byte, f func(key string, raw json.RawMessage) error) error {
	if !utf8.Valid(b) {
		return errEvent
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errEvent
	}
	seen := map[string]string{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return errEvent
		}
		key, _ := t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return errEvent
		}
		// Some releases write the id twice, the same one.
		if old, twice := seen[key]; twice {
			if old != string(raw) {
				return errEvent
			}
			continue
		}
		seen[key] = string(raw)
		if err := f(key, raw); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errEvent
	}
	if _, err := dec.Token(); err != io.EOF {
		return errEvent
	}
	return nil
}

// decode reads a value that may not be null.
func decode(raw json.RawMessage, v any) error {
	if string(raw) == "null" || json.Unmarshal(raw, v) != nil {
		return errEvent
	}
	return nil
}

// Parse reads a v2 websocket_frame event, or the payload of a v1 one, with
// encoding/json. After an error the id is set if it could be read.
func (f *Frame) Parse(b []byte) error {
	*f = Frame{}
	seen := 0
	err := object(b, func(key string, raw json.RawMessage) error {
		var text string
		switch key {
		case "correlation_id":
			seen |= sawID
			err := decode(raw, &text)
			f.CorrelationID = []byte(text)
			return err
		case "opcode":
			seen |= sawOpcode
			err := decode(raw, &text)
			f.Opcode = opcode([]byte(text))
			return err
		case "data":
			seen |= sawData
			err := decode(raw, &text)
			f.Data = []byte(text)
			return err
		case "client_to_server":
			seen |= sawSide
			return decode(raw, &f.ClientToServer)
		case "frame_index":
			seen |= sawIndex
			return decode(raw, &f.Index)
		case "fin":
			seen |= sawFin
			return decode(raw, &f.Fin)
		case "route_id":
			if string(raw) == "null" {
				return nil
			}
			f.HasRoute = true
			err := decode(raw, &text)
			f.Route = []byte(text)
			return err
		case "client_ip":
			err := decode(raw, &text)
			f.ClientIP = []byte(text)
			return err
		}
		return nil
	})
	if err == nil && seen&sawNeeded != sawNeeded {
		err = errEvent
	}
	return err
}

// Envelope is a v1 message.
type Envelope struct {
	Version   uint32
	EventType string
	Payload   json.RawMessage
}

// Parse reads a v1 message.
func (e *Envelope) Parse(b []byte) error {
	*e = Envelope{}
	err := object(b, func(key string, raw json.RawMessage) error {
		switch key {
		case "version":
			return decode(raw, &e.Version)
		case "event_type":
			return decode(raw, &e.EventType)
		case "payload":
			e.Payload = raw
		}
		return nil
	})
	if err == nil && (e.Version != 1 || e.EventType == "" || e.Payload == nil) {
		err = errEvent
	}
	return err
}

// Type is the v2 type of a v1 event's name, 0 when it has none.
func (e *Envelope) Type() Type {
	switch e.EventType {
	case "configure":
		return Configure
	case "request_headers":
		return RequestHeaders
	case "request_body_chunk":
		return RequestBodyChunk
	case "response_headers":
		return ResponseHeaders
	case "response_body_chunk":
		return ResponseBodyChunk
	case "request_complete":
		return RequestComplete
	case "web_socket_frame", "websocket_frame":
		return WebSocketFrame
	case "guardrail_inspect":
		return GuardrailInspect
	}
	return 0
}

// Headers is a request_headers event.
type Headers struct {
	CorrelationID string
	Route         string
	HasRoute      bool
	ClientIP      string
	Values        map[string][]string // by lower-case name
}

// Parse reads a request_headers event. After an error the id is set if it could
// be read.
func (h *Headers) Parse(b []byte) error {
	*h = Headers{}
	top := ""
	metadata := false
	err := object(b, func(key string, raw json.RawMessage) error {
		switch key {
		case "correlation_id":
			err := decode(raw, &top)
			if h.CorrelationID == "" {
				h.CorrelationID = top
			}
			return err
		case "headers":
			var m map[string][]string
			if err := decode(raw, &m); err != nil {
				return err
			}
			h.Values = make(map[string][]string, len(m))
			for name, lines := range m {
				h.Add(name, lines...)
			}
		case "metadata":
			metadata = true
			return object(raw, func(key string, raw json.RawMessage) error {
				switch key {
				case "correlation_id":
					return decode(raw, &h.CorrelationID)
				case "client_ip":
					return decode(raw, &h.ClientIP)
				case "route_id":
					if string(raw) != "null" {
						h.HasRoute = true
						return decode(raw, &h.Route)
					}
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && (!metadata || h.CorrelationID == "" || h.Values == nil || top != "" && top != h.CorrelationID) {
		err = errEvent
	}
	return err
}

// Add adds lines of a header to h.Values, which must not be nil.
func (h *Headers) Add(name string, lines ...string) {
	name = strings.ToLower(name)
	h.Values[name] = append(h.Values[name], lines...)
}

// Tokens are the comma-separated elements of all lines of a header, trimmed.
func (h *Headers) Tokens(name string) []string {
	var all []string
	for _, line := range h.Values[name] {
		for token := range strings.SplitSeq(line, ",") {
			if token = strings.TrimSpace(token); token != "" {
				all = append(all, token)
			}
		}
	}
	return all
}

// CorrelationID finds the id of any event, as far as it can be read: the
// object may be broken behind it. It looks at the top level and, for the
// envelope of v1 and the metadata of a request, two levels below. ok is false
// when there is none.
func CorrelationID(b []byte) (id string, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(b))
	depth, key := 0, false
	var name string
	for {
		t, err := dec.Token()
		if err != nil {
			return "", false
		}
		switch t := t.(type) {
		case json.Delim:
			switch t {
			case '{':
				depth++
				key = true
			case '[':
				// Nothing inside an array is an id of this event.
				for n := 1; n > 0; {
					u, err := dec.Token()
					if err != nil {
						return "", false
					}
					switch u {
					case json.Delim('['), json.Delim('{'):
						n++
					case json.Delim(']'), json.Delim('}'):
						n--
					}
				}
				key = true
			default:
				depth--
				key = true
			}
			continue
		case string:
			if key && depth > 0 {
				name, key = t, false
				continue
			}
			if name == "correlation_id" && depth <= 3 {
				return t, t != ""
			}
		}
		key = true
	}
}

// ConfigureEvent is a configure event of either generation.
type ConfigureEvent struct {
	CorrelationID string          `json:"correlation_id"`
	Config        json.RawMessage `json:"config"`
}

// Parse reads a configure event.
func (c *ConfigureEvent) Parse(b []byte) error {
	*c = ConfigureEvent{}
	return object(b, func(key string, raw json.RawMessage) error {
		switch key {
		case "correlation_id":
			if string(raw) == "null" {
				return nil
			}
			return decode(raw, &c.CorrelationID)
		case "config":
			c.Config = raw
		}
		return nil
	})
}

// Pushed reports whether a config value holds anything: null, {} and a missing
// one do not.
func Pushed(config json.RawMessage) bool {
	var compact bytes.Buffer
	if len(config) == 0 || json.Compact(&compact, config) != nil {
		return len(config) != 0
	}
	return compact.String() != "null" && compact.String() != "{}"
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

// fill sets every Secret below v, and nothing else, to the value.
func fill(v reflect.Value, secret string) (filled int) {
	switch {
	case v.Type() == typeSecret:
		v.SetString(secret)
		return 1
	case v.Type() == typeRegexp || v.Type() == typePrefix:
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), secret)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return fill(v.Index(0), secret)
	case v.Kind() == reflect.Map && v.Type().Elem() == typeSecret:
		v.Set(reflect.ValueOf(map[string]Secret{"k": Secret(secret)}))
		return 1
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				filled += fill(v.Field(i), secret)
			}
		}
	}
	return filled
}

// TestHideSecrets prints a configuration that is full of secrets in every way
// there is.
func TestHideSecrets(t *testing.T) {
	const secret = "hunter2"
	cfg := Default()
	if n := fill(reflect.ValueOf(cfg).Elem(), secret); n != 7 {
		t.Fatalf("filled %d secrets; is a new key that holds one of another type?", n)
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "cfg", cfg, "s", Secret(secret), "list", []Secret{secret})
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "cfg", cfg, "s", Secret(secret), "err", fmt.Errorf("e %s", Secret(secret)))
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]string{"slog": logged.String(), "json": string(encoded)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%U", "%c", "%t"} {
		printed[verb] = fmt.Sprintf(verb, cfg) + fmt.Sprintf(verb, *cfg) + fmt.Sprintf(verb, Secret(secret)) + fmt.Sprintf(verb, cfg.Auth.Providers[0].Headers)
	}
	printed["Sprint"] = fmt.Sprint(Secret(secret), cfg.Admin)
	printed["String"] = Secret(secret).String()
	for how, text := range printed {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("%U", []rune(secret))} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows a secret:\n%s", how, text)
			}
		}
	}
	if !strings.Contains(printed["json"], hidden) || string(cfg.Admin.Token) != secret {
		t.Error("the test shows nothing: the secrets are gone")
	}
}

// TestErrorsHideSecrets puts values that may be secret where they are wrong.
func TestErrorsHideSecrets(t *testing.T) {
	env := lookup(map[string]string{"E": "hunter2", "N": "a/#/hunter2"})
	for _, text := range []string{
		`{"admin": {"token": 666}}`,
		`{"admin": {"token": ["hunter2"]}}`,
		`{"admin": {"token": "hunter2${"}}`,
		`{"admin": {"token": "hunter2${x-hunter2}"}}`,
		`{"admin": {"token": "hunter2\q"}}`,
		`{"admin": {"token": "hunter2}}`,
		`{"gateway": {"upstreams": [{"url": "mqtt://u:hunter2@h"}]}}`,
		`{"gateway": {"upstreams": [{"url": "mqtt://u:hunter2@h:x"}]}}`,
		`{"gateway": {"upstreams": [{"url": "mqtt://u:%zzhunter2@h"}]}}`,
		`{"gateway": {"upstreams": [{"url": "hunter2@h"}]}}`,
		`{"broker": {"url": "wss://u:hunter2@h"}}`,
		`{"auth": {"providers": [{"type": "http", "url": "https://u:hunter2@h"}]}}`,
		`{"auth": {"providers": [{"type": "http", "url": "https://u:hunter2@h:y"}]}}`,
		`{"auth": {"providers": [{"type": "jwt", "jwks-url": "//u:hunter2@h"}]}}`,
		`{"rate-limit": {"store": {"type": "local", "url": "redis://:hunter2@h"}}}`,
		`{"acl": {"default-action": "${E}"}}`,
		`{"acl": {"rules": [{"decision": "allow", "topics": ["${N}"], "match": {"username-regex": "(${E}", "client-ip": "${E}", "listener": "${E}"}}]}}`,
		`{"auth": {"providers": [{"type": "file", "path": "${E}"}]}, "audit": {"output": "${E}/x"}}`,
		`{"gateway": {"listeners": [{"address": "${E}", "auth": {"providers": ["${E}"]}, "name": "${E}"}, {"name": "${E}", "address": "tcp://:1"}]}}`,
		`{"admin": {"address": "0.0.0.0:${E}"}}`,
	} {
		_, warnings, err := Parse("c.json", "", []byte(text), env)
		var errs Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s: no error", text)
			continue
		}
		if all := fmt.Sprintf("%v %+v", err, warnings); strings.Contains(all, "hunter2") || strings.Contains(all, "666") {
			t.Errorf("%s\nshows what may be a secret:\n%s", text, all)
		}
	}
}

package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/mqtt"
)

// acts are the sample devices: each runs until ctx ends.
var acts = []func(context.Context, places){
	dashboard,
	sensor("kitchen", mqtt.V5, func(at places) string { return at.tcp }, 1),
	sensor("garage", mqtt.V311, func(at places) string { return at.ws }, 0),
	sensor("attic", mqtt.V311, func(at places) string { return at.proxy }, 1),
	misbehave,
}

// every calls f at once and then every d until ctx ends or f fails.
func every(ctx context.Context, d time.Duration, f func(i int) error) {
	t := time.NewTicker(d)
	defer t.Stop()
	for i := 0; f(i) == nil; i++ {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// dashboard is an operator's screen: it sees every sensor.
func dashboard(ctx context.Context, at places) {
	every(ctx, 2*time.Second, func(int) error {
		d := device{version: mqtt.V5, clientID: "dashboard", username: "olga", password: "demo-olga"}
		defer d.close()
		if code, err := d.dial(ctx, at.tcp); err != nil || code != 0 {
			return nil // the next try may pass
		}
		if err := d.subscribe(ctx, "sensors/#", 1); err != nil {
			return nil
		}
		_ = d.listen(ctx, func(string) {}) // ends with the connection
		return ctx.Err()
	})
}

// sensor publishes its own readings.
func sensor(name string, v mqtt.Version, where func(places) string, qos byte) func(context.Context, places) {
	return func(ctx context.Context, at places) {
		every(ctx, 2*time.Second, func(int) error {
			d := device{version: v, clientID: name + "-1", username: name, password: "demo-" + name}
			defer d.close()
			if code, err := d.dial(ctx, where(at)); err != nil || code != 0 {
				return nil
			}
			every(ctx, 3*time.Second, func(i int) error {
				reading := fmt.Sprintf(`{"celsius":%.1f}`, 20+float64(i%50)/10)
				return d.publish(ctx, "sensors/"+name+"/data", qos, reading)
			})
			return ctx.Err()
		})
	}
}

// misbehave tries what must fail, through both doors in turn.
func misbehave(ctx context.Context, at places) {
	tricks := []func(context.Context, string){
		func(ctx context.Context, url string) { // another's data
			with(ctx, url, device{version: mqtt.V5, clientID: "garage-2", username: "garage", password: "demo-garage"}, func(d *device) {
				_ = d.publish(ctx, "sensors/kitchen/data", 0, `{"celsius":900}`)
				_ = d.publish(ctx, "sensors/garage/keys", 0, `{"key":"…"}`)
			})
		},
		func(ctx context.Context, url string) { // a guessed password
			with(ctx, url, device{version: mqtt.V311, clientID: "olga-2", username: "olga", password: "letmein"}, func(*device) {})
		},
		func(ctx context.Context, url string) { // everything at once
			with(ctx, url, device{version: mqtt.V5, clientID: "attic-2", username: "attic", password: "demo-attic"}, func(d *device) {
				// The gateway grants it, since some of "#" is allowed, and keeps
				// the rest of the messages back; behind a proxy it is refused.
				short, cancel := context.WithTimeout(ctx, 4*time.Second)
				defer cancel()
				if err := d.subscribe(short, "#", 0); err == nil {
					_ = d.listen(short, func(string) {})
				}
			})
		},
		func(ctx context.Context, url string) { // a last will where it may not write
			will := &mqtt.Will{Topic: []byte("commands/kitchen"), Payload: []byte("open")}
			with(ctx, url, device{version: mqtt.V5, clientID: "garage-3", username: "garage", password: "demo-garage", will: will}, func(*device) {})
		},
	}
	every(ctx, 1500*time.Millisecond, func(i int) error {
		url := at.tcp
		if i%2 == 1 {
			url = at.proxy
		}
		tricks[i/2%len(tricks)](ctx, url)
		return ctx.Err()
	})
}

// with connects, and calls f when the CONNECT was accepted. What a trick meets
// is its own affair: the decisions are printed.
func with(ctx context.Context, url string, d device, f func(*device)) {
	defer d.close()
	if code, err := d.dial(ctx, url); err == nil && code == 0 {
		f(&d)
	}
}

package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/config"
)

// Watch asks the broker of a configuration, again and again, whether it is
// there, and puts [BrokerDown] on a board when it is not. Start with
// [NewWatch]; its methods may be called at once.
type Watch struct {
	// Fixed.
	board *Board
	log   *slog.Logger
	work  sync.WaitGroup

	// Guarded by mu.
	mu     sync.Mutex
	cfg    config.Broker
	cancel context.CancelFunc // of the asking, nil: nobody does
}

// NewWatch asks nobody yet.
func NewWatch(b *Board, log *slog.Logger) *Watch { return &Watch{board: b, log: log} }

// Set has the broker of a configuration asked from now on; without a URL none
// is. The same one again changes nothing.
func (w *Watch) Set(cfg config.Broker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cfg == w.cfg {
		return
	}
	w.end()
	w.cfg = cfg
	if cfg.URL == "" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.work.Go(func() { w.ask(ctx, &cfg) })
}

// Stop ends the asking, and with it the reason.
func (w *Watch) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
	w.cfg = config.Broker{}
}

// end stops what asks. The caller holds mu.
func (w *Watch) end() {
	if w.cancel != nil {
		w.cancel()
		w.cancel = nil
	}
	w.work.Wait()
	w.board.Set(BrokerDown, false)
}

// ask probes until ctx ends.
func (w *Watch) ask(ctx context.Context, cfg *config.Broker) {
	turn := time.NewTicker(time.Duration(cfg.ProbeIntervalSecs) * time.Second)
	defer turn.Stop()
	for {
		err := Probe(ctx, cfg)
		if ctx.Err() != nil {
			return
		}
		switch news := w.board.Set(BrokerDown, err != nil); {
		case news && err != nil:
			w.log.Warn("the broker does not answer", "url", cfg.URL, "error", err)
		case news:
			w.log.Info("the broker answers again", "url", cfg.URL)
		}
		select {
		case <-turn.C:
		case <-ctx.Done():
			return
		}
	}
}

package generate

import (
	"errors"
	"sync/atomic"
	"time"
)

// Stats are the engine's counts since it started, for monitoring.
type Stats struct {
	Running, Waiting           int   // requests now
	Completed, Cancelled       int64 // requests that ended so
	Failed, Refused            int64
	PromptTokens, CachedTokens int64
	GeneratedTokens            int64
	Decodes, DecodeFailures    int64
	Decoding                   time.Duration // time in llama.cpp
}

type counters struct {
	limit                        int64
	open, running                atomic.Int64
	completed, cancelled, failed atomic.Int64
	refused                      atomic.Int64
	prompt, cached, generated    atomic.Int64
	decodes, failures, busy      atomic.Int64
}

func (c *counters) decoded(d time.Duration) {
	c.decodes.Add(1)
	c.busy.Add(int64(d))
}

// ended counts a finished request.
func (c *counters) ended(r *Result, err error) {
	c.open.Add(-1)
	c.prompt.Add(int64(r.PromptTokens))
	c.cached.Add(int64(r.CachedTokens))
	switch {
	case r.Finish == FinishCancel:
		c.cancelled.Add(1)
	case err != nil && !errors.Is(err, ErrClosed):
		c.failed.Add(1)
	case err == nil:
		c.completed.Add(1)
	}
}

// Stats returns the counts.
func (e *Engine) Stats() Stats {
	c := &e.stats
	running, open := int(c.running.Load()), int(c.open.Load())
	return Stats{
		Running: running, Waiting: max(0, open-running),
		Completed: c.completed.Load(), Cancelled: c.cancelled.Load(), Failed: c.failed.Load(), Refused: c.refused.Load(),
		PromptTokens: c.prompt.Load(), CachedTokens: c.cached.Load(), GeneratedTokens: c.generated.Load(),
		Decodes: c.decodes.Load(), DecodeFailures: c.failures.Load(), Decoding: time.Duration(c.busy.Load()),
	}
}

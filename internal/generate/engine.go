package generate

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"besa/internal/llama"
)

// Options configures [New].
type Options struct {
	Context  int // tokens of each sequence
	Parallel int // sequences at once
	Queue    int // requests that may wait for a sequence
	UBatch   int // tokens of prompts to evaluate at once; 0: llama.cpp's default
	Threads  int // 0: one per processor
}

// Engine runs requests on one model. Its methods may be called from any
// goroutine.
type Engine struct {
	model   *llama.Model
	context *llama.Context
	length  int // tokens per sequence
	slots   []*slot
	jobs    chan *job // waiting
	done    chan struct{}
	stats   counters

	mu     sync.Mutex
	closed bool
}

// job is a request under way. The loop alone writes to it until it closes
// chunks.
type job struct {
	ctx    context.Context
	req    Request
	chunks chan Chunk // holds all that can come: the loop never waits for a reader
	queued time.Time
	result Result
	err    error
}

// New starts an engine. The model must stay open until Close has returned.
func New(m *llama.Model, o Options) (*Engine, error) {
	c, err := m.NewContext(llama.ContextOptions{
		Tokens: o.Context, Sequences: o.Parallel, Outputs: o.Parallel, Threads: o.Threads,
		Batch: max(llama.UBatchTokens, o.Parallel), UBatch: o.UBatch,
	})
	if err != nil {
		return nil, err
	}
	e := &Engine{
		model: m, context: c, length: c.Length(),
		jobs: make(chan *job, o.Parallel+o.Queue), done: make(chan struct{}),
	}
	e.stats.limit = int64(o.Parallel + o.Queue)
	for seq := range o.Parallel {
		e.slots = append(e.slots, &slot{engine: e, seq: seq})
	}
	go e.loop()
	return e, nil
}

// Context returns how many tokens a prompt and its continuation can have.
func (e *Engine) Context() int { return e.length }

// submit queues a job.
func (e *Engine) submit(j *job) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	if e.stats.open.Load() >= e.stats.limit {
		e.stats.refused.Add(1)
		return ErrBusy
	}
	e.stats.open.Add(1)
	e.jobs <- j // has room for as many as are open
	return nil
}

// Close ends all requests with ErrClosed and frees the context.
func (e *Engine) Close() {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.jobs)
	}
	e.mu.Unlock()
	<-e.done
}

// loop owns the context and the slots.
func (e *Engine) loop() {
	// llama.cpp keeps its worker threads with the thread that calls it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(e.done)
	defer e.context.Close()
	var waiting []*job
	for open := true; open; {
		if waiting, open = e.receive(waiting); open {
			waiting = e.place(waiting)
			e.step()
		}
	}
	for _, s := range e.slots {
		s.finish("", ErrClosed)
	}
	for _, j := range waiting {
		e.end(j, "", ErrClosed)
	}
}

// receive appends the jobs that have come; without work it waits for one. It
// returns false when the engine is closed.
func (e *Engine) receive(waiting []*job) ([]*job, bool) {
	if len(waiting) == 0 && e.idle() {
		j, ok := <-e.jobs
		if !ok {
			return nil, false
		}
		waiting = append(waiting, j)
	}
	for {
		select {
		case j, ok := <-e.jobs:
			if !ok {
				return waiting, false
			}
			waiting = append(waiting, j)
		default:
			return waiting, true
		}
	}
}

func (e *Engine) idle() bool {
	for _, s := range e.slots {
		if s.job != nil {
			return false
		}
	}
	return true
}

// place starts waiting jobs in free slots, in the order they came, and returns
// those that must wait on. Jobs that were given up end here.
func (e *Engine) place(waiting []*job) []*job {
	var rest []*job
	for _, j := range waiting {
		best := e.bestFree(j.req.Prompt)
		switch err := j.ctx.Err(); {
		case err != nil:
			e.end(j, FinishCancel, err)
		case best == nil:
			rest = append(rest, j)
		default:
			if err := best.start(j); err != nil {
				e.end(j, "", err)
			}
		}
	}
	return rest
}

// bestFree returns the free slot that remembers most of a prompt, or nil.
func (e *Engine) bestFree(prompt []int32) *slot {
	var best *slot
	for _, s := range e.slots {
		if s.job == nil && (best == nil || s.common(prompt) > best.common(prompt)) {
			best = s
		}
	}
	return best
}

// step decodes one batch: a token of every sequence that generates, then as
// much of the prompts as fits.
func (e *Engine) step() {
	for _, s := range e.slots {
		if s.job != nil && s.job.ctx.Err() != nil {
			s.finish(FinishCancel, s.job.ctx.Err())
		}
	}
	for _, prompts := range []bool{false, true} {
		for _, s := range e.slots {
			if s.job != nil && s.inPrompt() == prompts {
				s.fill()
			}
		}
	}
	if e.context.Pending() == 0 {
		return
	}
	started := time.Now()
	err := e.context.Decode()
	e.stats.decoded(time.Since(started))
	for _, s := range e.slots {
		switch {
		case s.job == nil || !s.filled:
		case err != nil:
			s.forget()
			s.finish("", err)
		default:
			s.advance()
		}
	}
	if err != nil && !errors.Is(err, llama.ErrContextFull) {
		e.stats.failures.Add(1)
	}
}

// end completes a job.
func (e *Engine) end(j *job, why Finish, err error) {
	j.result.Finish, j.err = why, err
	j.result.PromptTokens = len(j.req.Prompt)
	e.stats.ended(&j.result, err)
	close(j.chunks)
}

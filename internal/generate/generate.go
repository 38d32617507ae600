// Package generate continues texts with a model in llama.cpp, several at once:
// one loop owns the context and decodes the sequences of all running requests
// together (continuous batching); requests beyond that wait in a queue. In:
// prompts as token ids with sampling options. Out: text as it comes, why it
// ended, and what it took.
package generate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"besa/internal/llama"
)

var (
	// ErrBusy means that the queue is full.
	ErrBusy = errors.New("too many requests are waiting")
	// ErrTooLong means that a prompt leaves no room in the context.
	ErrTooLong = errors.New("the prompt is too long")
	// ErrClosed means that the engine is shutting down.
	ErrClosed = errors.New("the engine is closed")
	// ErrRequest means that a request makes no sense.
	ErrRequest = errors.New("invalid request")
)

// Request is a text to continue.
type Request struct {
	Prompt    []int32 // not empty
	MaxTokens int     // most tokens to generate; 0: until the context is full
	Sampling  llama.Sampling
	Stop      []string // the text ends before the first of these
	Logprobs  int      // likeliest alternatives to report per token; -1: no probabilities
}

// Limits of a request.
const (
	MaxStops    = 16
	MaxLogprobs = 20
)

// Chunk is a piece of generated text with the tokens that were generated since
// the last one (only when probabilities were asked for).
type Chunk struct {
	Text   string
	Tokens []Token
}

// Token is a generated token and its probability before sampling.
type Token struct {
	ID      int32
	Piece   []byte // need not be whole characters
	Logprob float64
	Top     []Alternative // likeliest first
}

// Alternative is a token that could have come.
type Alternative struct {
	ID      int32
	Piece   []byte
	Logprob float64
}

// Finish says why a text ended.
type Finish string

// The ends of a text.
const (
	FinishStop   Finish = "stop"   // the model ended it, or a stop string came
	FinishLength Finish = "length" // MaxTokens are generated, or the context is full
	FinishCancel Finish = "cancel" // the caller's context ended
)

// Result is what a request came to.
type Result struct {
	Finish       Finish
	ContextFull  bool // FinishLength because the context has no more room
	PromptTokens int
	CachedTokens int // of the prompt, known from an earlier request
	Tokens       int // generated

	Wait, Prompt, Generation time.Duration
}

// check refuses requests that cannot be run; length is the context's.
func (r *Request) check(vocab, length int) error {
	if len(r.Prompt) == 0 {
		return fmt.Errorf("%w: the prompt is empty", ErrRequest)
	}
	if len(r.Prompt) >= length {
		return fmt.Errorf("%w: it has %d tokens, the context of %d must hold it and the answer", ErrTooLong, len(r.Prompt), length)
	}
	for _, id := range r.Prompt {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%w: token %d is outside the vocabulary of %d", ErrRequest, id, vocab)
		}
	}
	if r.MaxTokens < 0 {
		return fmt.Errorf("%w: at most %d tokens", ErrRequest, r.MaxTokens)
	}
	if len(r.Stop) > MaxStops {
		return fmt.Errorf("%w: %d stop strings, at most %d", ErrRequest, len(r.Stop), MaxStops)
	}
	for _, s := range r.Stop {
		if s == "" {
			return fmt.Errorf("%w: an empty stop string", ErrRequest)
		}
	}
	if r.Logprobs < -1 || r.Logprobs > MaxLogprobs {
		return fmt.Errorf("%w: %d alternatives per token, at most %d", ErrRequest, r.Logprobs, MaxLogprobs)
	}
	return r.Sampling.Validate()
}

// Generate continues a text and calls emit, in this goroutine, with every piece
// of it. It returns when the text is complete, ctx ends or emit fails; what was
// generated until then is in the result. Errors: ErrBusy, ErrTooLong,
// ErrRequest, ErrClosed, llama.ErrSampling, ctx's, emit's, llama.cpp's.
func (e *Engine) Generate(ctx context.Context, req Request, emit func(Chunk) error) (Result, error) {
	if err := req.check(e.model.Vocab(), e.length); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	j := &job{ctx: ctx, req: req, chunks: make(chan Chunk, e.length-len(req.Prompt)+2), queued: time.Now()}
	if err := e.submit(j); err != nil {
		return Result{}, err
	}
	var failed error
	for c := range j.chunks {
		if failed != nil {
			continue // the loop will notice that ctx has ended
		}
		if failed = emit(c); failed != nil {
			cancel()
		}
	}
	if failed != nil {
		return j.result, failed
	}
	return j.result, j.err
}

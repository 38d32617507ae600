package llama

import (
	"errors"
	"fmt"
	"math"
	"runtime"

	yzma "github.com/hybridgroup/yzma/pkg/llama"
)

// UBatchTokens is llama.cpp's own physical batch: more tokens than that at once
// change nothing in the arithmetic.
const UBatchTokens = 512

// ContextOptions configures [Model.NewContext].
type ContextOptions struct {
	Tokens    int // per sequence
	Sequences int // at least 1
	Batch     int // most tokens per Decode; 0: UBatchTokens
	UBatch    int // most tokens at once of those; 0: UBatchTokens
	Outputs   int // most rows of logits per Decode; 0: as many as tokens
	Threads   int // 0: one per processor

	// Precise keeps llama.cpp's attention in float32: a float32 cache of keys and
	// values, no flash attention. It is for comparisons with another engine.
	Precise bool
}

// Context is a model's working memory: sequences of tokens with their cached
// keys and values, and a batch of tokens to evaluate next. It is not safe for
// concurrent use. llama.cpp keeps its threads with the thread that calls it, so
// one locked goroutine should do all the decoding.
type Context struct {
	model  *Model
	handle yzma.Context
	memory yzma.Memory
	batch  yzma.Batch
	rows   int  // wanted of the batch, or of the last one decoded
	size   int  // tokens the batch holds
	length int  // tokens per sequence
	warm   bool // has decoded
}

// ErrContextFull means that the cache has no room for a batch.
var ErrContextFull = errors.New("the context is full")

// NewContext makes an empty context.
func (m *Model) NewContext(o ContextOptions) (*Context, error) {
	if m.handle == 0 {
		return nil, ErrClosed
	}
	if o.Tokens < 1 || o.Sequences < 1 || o.Tokens > math.MaxInt32/2/o.Sequences {
		return nil, fmt.Errorf("a context of %d sequences of %d tokens: out of range", o.Sequences, o.Tokens)
	}
	if o.Batch <= 0 {
		o.Batch = UBatchTokens
	}
	if o.UBatch <= 0 {
		o.UBatch = UBatchTokens
	}
	if o.Threads <= 0 {
		o.Threads = runtime.NumCPU()
	}
	threads := int32(min(o.Threads, math.MaxInt16))
	params := yzma.ContextDefaultParams()
	params.NCtx = uint32(o.Sequences * o.Tokens)
	params.NBatch = uint32(o.Batch)
	params.NUbatch = uint32(min(o.UBatch, o.Batch))
	params.NSeqMax = uint32(o.Sequences)
	params.NOutputsMax = uint32(max(o.Outputs, 0))
	params.NThreads, params.NThreadsBatch = threads, threads
	if o.Precise {
		params.TypeK, params.TypeV = yzma.GGMLTypeF32, yzma.GGMLTypeF32
		params.FlashAttentionType = yzma.FlashAttentionTypeDisabled
	}
	library.log.forget()
	handle, err := yzma.InitFromModel(m.handle, params)
	if err != nil {
		return nil, library.log.explain(fmt.Errorf("make a context of %d × %d tokens in llama.cpp: %w", o.Sequences, o.Tokens, err))
	}
	memory, err := yzma.GetMemory(handle)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a context in llama.cpp: %w", err), yzma.Free(handle))
	}
	return &Context{
		model: m, handle: handle, memory: memory, size: o.Batch,
		length: min(o.Tokens, int(yzma.NCtxSeq(handle))), batch: yzma.BatchInit(int32(o.Batch), 0, 1),
	}, nil
}

// Length returns how many tokens each sequence can have.
func (c *Context) Length() int { return c.length }

// Pending returns how many tokens are in the batch, and Room how many more it
// takes.
func (c *Context) Pending() int { return int(c.batch.NTokens) }

// Room is the counterpart of Pending.
func (c *Context) Room() int { return c.size - c.Pending() }

// Add puts a token at a position of a sequence into the batch. With wanted its
// logits are computed.
func (c *Context) Add(id int32, pos, seq int, wanted bool) error {
	if id < 0 || int(id) >= c.model.tokens {
		return fmt.Errorf("token %d is outside the vocabulary of %d", id, c.model.tokens)
	}
	if c.Pending() == 0 {
		c.rows = 0
	}
	if err := c.batch.Add(yzma.Token(id), yzma.Pos(pos), []yzma.SeqId{yzma.SeqId(seq)}, wanted); err != nil {
		return fmt.Errorf("fill llama.cpp's batch: %w", err)
	}
	if wanted {
		c.rows++
	}
	return nil
}

// Decode evaluates the batch and empties it. Its logits stay until the next
// Decode. Errors wrap [ErrContextFull] where the cache has no room.
func (c *Context) Decode() error {
	library.log.forget()
	code, err := yzma.Decode(c.handle, c.batch)
	c.batch.NTokens = 0
	switch {
	case err == nil && code == 0:
		if !c.warm { // what starting and loading took is not needed any more
			c.warm = true
			settle()
		}
		return nil
	case err == nil && code == 1:
		err = ErrContextFull
	case err == nil:
		err = fmt.Errorf("llama_decode returns %d", code)
	}
	return library.log.explain(fmt.Errorf("run %s in llama.cpp: %w", c.model.path, err))
}

// Logits returns all wanted rows of the last Decode, in the order of Add. They
// are gone with the next one.
func (c *Context) Logits() (logits []float32, rows int, err error) {
	if c.rows == 0 {
		return nil, 0, nil
	}
	logits, err = yzma.GetLogits(c.handle, c.rows, c.model.tokens)
	if err != nil || len(logits) != c.rows*c.model.tokens {
		return nil, 0, library.log.explain(fmt.Errorf("run %s in llama.cpp: it gives no logits", c.model.path))
	}
	return logits, c.rows, nil
}

// Row returns the logits of the token that was the i-th of the last batch.
func (c *Context) Row(i int) ([]float32, error) {
	row, err := yzma.GetLogitsIth(c.handle, int32(i), c.model.tokens)
	if err == nil && row == nil {
		err = fmt.Errorf("run %s in llama.cpp: token %d of the batch has no logits", c.model.path, i)
	}
	return row, err
}

// Clear forgets all sequences.
func (c *Context) Clear() error {
	c.batch.NTokens = 0
	if err := yzma.MemoryClear(c.memory, true); err != nil {
		return fmt.Errorf("clear llama.cpp's context: %w", err)
	}
	return nil
}

// Keep shortens a sequence to its first n tokens and reports whether that
// many are kept; a model that cannot forget a part forgets all.
func (c *Context) Keep(seq, n int) bool {
	if ok, err := yzma.MemorySeqRm(c.memory, yzma.SeqId(seq), yzma.Pos(n), -1); ok && err == nil {
		return true
	}
	_, _ = yzma.MemorySeqRm(c.memory, yzma.SeqId(seq), -1, -1) // all of it: never refused
	return n == 0
}

// Close frees the context. Closing it again, or a nil one, does nothing.
func (c *Context) Close() {
	if c == nil || c.handle == 0 {
		return
	}
	_ = yzma.BatchFree(c.batch) // fails on an invalid handle only
	_ = yzma.Free(c.handle)
	c.handle = 0
}

package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/llama"
)

// load opens the tiny model.
func load(t testing.TB) *llama.Model {
	t.Helper()
	path := demomodel.File(t)
	m, err := llama.Load(context.Background(), path, llama.Options{Library: assets.Path(t, assets.Llama)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// engine starts an engine; one thread, since llama.cpp's wait in busy loops.
func engine(t testing.TB, m *llama.Model, o Options) *Engine {
	t.Helper()
	o.Threads = 1
	e, err := New(m, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// greedy asks for the likeliest continuation of a text.
func greedy(t testing.TB, m *llama.Model, prompt string, tokens int) Request {
	t.Helper()
	ids, err := m.Tokenize(prompt, true, false)
	if err != nil {
		t.Fatal(err)
	}
	s := llama.DefaultSampling()
	s.Temperature = 0
	return Request{Prompt: ids, MaxTokens: tokens, Sampling: s, Logprobs: -1}
}

// collected is all that a request gave.
type collected struct {
	text   string
	tokens []Token
	result Result
	err    error
}

func collect(ctx context.Context, e *Engine, r Request) (c collected) {
	c.result, c.err = e.Generate(ctx, r, func(chunk Chunk) error {
		c.text += chunk.Text
		c.tokens = append(c.tokens, chunk.Tokens...)
		return nil
	})
	return c
}

var prompts = []string{
	"In the beginning God created", "And it came to pass", "Blessed is the man that",
	"Now these are the names of", "The LORD is my", "And Moses said unto the people",
}

// TestGreedyIsLlamaCpps compares with a plain loop over llama.cpp's own calls:
// decode one token, take the largest logit.
func TestGreedyIsLlamaCpps(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 128, Parallel: 1})
	for _, prompt := range prompts[:2] {
		r := greedy(t, m, prompt, 30)
		c, err := m.NewContext(llama.ContextOptions{Tokens: 128, Sequences: 1, Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		ids := slices.Clone(r.Prompt)
		for known := 0; len(ids) < len(r.Prompt)+30; {
			for ; known < len(ids); known++ {
				if err := c.Add(ids[known], known, 0, known == len(ids)-1); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Decode(); err != nil {
				t.Fatal(err)
			}
			logits, _, err := c.Logits()
			if err != nil {
				t.Fatal(err)
			}
			next := int32(slices.Index(logits, slices.Max(logits)))
			if m.EndsGeneration(next) {
				break
			}
			ids = append(ids, next)
			want.Write(m.Piece(next))
		}
		c.Close()
		got := collect(t.Context(), e, r)
		if got.err != nil || got.text != want.String() || got.text == "" {
			t.Errorf("%q: %q, %v; want %q", prompt, got.text, got.err, want.String())
		}
		if got.result.Finish != FinishLength || got.result.Tokens != 30 || got.result.PromptTokens != len(r.Prompt) {
			t.Errorf("%q: %+v", prompt, got.result)
		}
	}
}

// TestParallelIsSequential: requests that share batches give what they give
// alone. How many tokens share a batch shows in the last digits of llama.cpp's
// sums, so texts may part where two tokens were as good as equally likely.
func TestParallelIsSequential(t *testing.T) {
	const closeCall = 0.1 // difference of log-probabilities
	m := load(t)
	alone := engine(t, m, Options{Context: 128, Parallel: 1})
	together := engine(t, m, Options{Context: 128, Parallel: 3, Queue: 10})
	want := make([]collected, len(prompts))
	for i, p := range prompts {
		r := greedy(t, m, p, 40)
		r.Logprobs = 2
		if want[i] = collect(t.Context(), alone, r); want[i].err != nil {
			t.Fatal(want[i].err)
		}
	}
	var wg sync.WaitGroup
	for i, p := range prompts {
		r := greedy(t, m, p, 40)
		r.Logprobs = 0
		wg.Go(func() {
			got := collect(t.Context(), together, r)
			if got.err != nil || len(got.tokens) == 0 {
				t.Errorf("%q: %d tokens, %v", p, len(got.tokens), got.err)
			}
			for n, w := range want[i].tokens {
				if n < len(got.tokens) && got.tokens[n].ID == w.ID {
					continue
				}
				if margin := w.Top[0].Logprob - w.Top[1].Logprob; margin > closeCall {
					t.Errorf("%q: token %d differs, though its lead is %v:\n%q\n%q", p, n, margin, got.text, want[i].text)
				}
				return
			}
		})
	}
	wg.Wait()
	s := together.Stats()
	if s.Completed != int64(len(prompts)) || s.Running != 0 || s.Waiting != 0 || s.GeneratedTokens == 0 || s.Decoding == 0 {
		t.Errorf("%+v", s)
	}
	if s.Decodes >= s.GeneratedTokens {
		t.Errorf("%d decodes for %d tokens: nothing was batched", s.Decodes, s.GeneratedTokens)
	}
}

func TestSeed(t *testing.T) {
	m := load(t)
	r := greedy(t, m, prompts[0], 30)
	r.Sampling.Temperature, r.Sampling.TopK, r.Sampling.TopP = 1.5, 0, 1
	texts := map[string]bool{}
	for seed := range uint32(3) {
		r.Sampling.Seed = seed
		first := collect(t.Context(), engine(t, m, Options{Context: 128, Parallel: 1}), r)
		again := collect(t.Context(), engine(t, m, Options{Context: 128, Parallel: 1}), r)
		if first.err != nil || first.text != again.text {
			t.Errorf("seed %d: %q and %q, %v", seed, first.text, again.text, first.err)
		}
		texts[first.text] = true
	}
	if len(texts) < 2 {
		t.Errorf("three seeds give one text: %v", texts)
	}
}

func TestStopsAndLimits(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 64, Parallel: 1})
	whole := collect(t.Context(), e, greedy(t, m, prompts[0], 20))
	if whole.err != nil {
		t.Fatal(whole.err)
	}
	words := strings.Fields(whole.text)
	stop := " " + words[2]
	r := greedy(t, m, prompts[0], 20)
	r.Stop = []string{"never to be seen", stop}
	got := collect(t.Context(), e, r)
	want, _, _ := strings.Cut(whole.text, stop)
	if got.err != nil || got.text != want || got.result.Finish != FinishStop {
		t.Errorf("stop %q: %q, %+v, %v; want %q", stop, got.text, got.result, got.err, want)
	}
	if got.result.CachedTokens != len(r.Prompt)-1 {
		t.Errorf("%d of %d tokens were known", got.result.CachedTokens, len(r.Prompt))
	}

	r = greedy(t, m, prompts[0], 0)
	r.Sampling.IgnoreEOS = true
	got = collect(t.Context(), e, r)
	if total := got.result.PromptTokens + got.result.Tokens; got.err != nil || got.result.Finish != FinishLength || !got.result.ContextFull || total != e.Context()+1 {
		t.Errorf("until the context of %d is full: %+v, %v", e.Context(), got.result, got.err)
	}

	for name, c := range map[string]struct {
		change func(*Request)
		is     error
	}{
		"empty prompt":   {func(r *Request) { r.Prompt = nil }, ErrRequest},
		"long prompt":    {func(r *Request) { r.Prompt = make([]int32, e.Context()) }, ErrTooLong},
		"no such token":  {func(r *Request) { r.Prompt[0] = 1 << 20 }, ErrRequest},
		"negative token": {func(r *Request) { r.Prompt[0] = -1 }, ErrRequest},
		"empty stop":     {func(r *Request) { r.Stop = []string{""} }, ErrRequest},
		"many stops":     {func(r *Request) { r.Stop = make([]string, MaxStops+1) }, ErrRequest},
		"max tokens":     {func(r *Request) { r.MaxTokens = -1 }, ErrRequest},
		"logprobs":       {func(r *Request) { r.Logprobs = MaxLogprobs + 1 }, ErrRequest},
		"sampling":       {func(r *Request) { r.Sampling.TopP = 2 }, llama.ErrSampling},
	} {
		r := greedy(t, m, prompts[0], 5)
		c.change(&r)
		if got := collect(t.Context(), e, r); !errors.Is(got.err, c.is) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
}

func TestLogprobs(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 64, Parallel: 1})
	r := greedy(t, m, prompts[0], 8)
	r.Logprobs = 3
	got := collect(t.Context(), e, r)
	if got.err != nil || len(got.tokens) != 8 {
		t.Fatalf("%d tokens, %v", len(got.tokens), got.err)
	}
	for i, x := range got.tokens {
		if len(x.Top) != 3 || x.Top[0].ID != x.ID || x.Top[0].Logprob != x.Logprob || x.Logprob > 0 {
			t.Errorf("token %d: %+v: the likeliest was chosen", i, x)
		}
		if !slices.IsSortedFunc(x.Top, func(a, b Alternative) int { return -compare(a.Logprob, b.Logprob) }) {
			t.Errorf("token %d: %+v: not sorted", i, x.Top)
		}
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestCancel: a request ends with its context, while it runs and while it
// waits, and its sequence serves the next one.
func TestCancel(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 512, Parallel: 1, Queue: 1})
	forever := greedy(t, m, prompts[0], 0)
	forever.Sampling.IgnoreEOS = true

	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan struct{}), make(chan collected)
	go func() {
		var c collected
		first := true
		c.result, c.err = e.Generate(ctx, forever, func(Chunk) error {
			if first {
				close(started)
				first = false
			}
			return nil
		})
		ended <- c
	}()
	<-started
	waiting, stopWaiting := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stopWaiting()
	if got := collect(waiting, e, forever); !errors.Is(got.err, context.DeadlineExceeded) && got.err != nil {
		t.Errorf("waiting: %+v, %v", got.result, got.err)
	}
	cancel()
	if c := <-ended; c.err == nil && c.result.Finish != FinishLength || c.err != nil && (!errors.Is(c.err, context.Canceled) || c.result.Finish != FinishCancel) {
		t.Errorf("cancelled: %+v, %v", c.result, c.err)
	}
	broken := errors.New("the reader is gone")
	if _, err := e.Generate(t.Context(), forever, func(Chunk) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("emit fails: %v", err)
	}
	if got := collect(t.Context(), e, greedy(t, m, prompts[1], 5)); got.err != nil || got.text == "" {
		t.Errorf("afterwards: %q, %v", got.text, got.err)
	}
}

// TestQueueIsBounded fills one sequence and a queue of one.
func TestQueueIsBounded(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 512, Parallel: 1, Queue: 1})
	r := greedy(t, m, prompts[0], 0)
	r.Sampling.IgnoreEOS = true
	hold, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(hold) })
		_, _ = e.Generate(ctx, r, func(Chunk) error { once(); <-release; return nil })
	})
	<-hold
	// The first may be complete by now as far as the loop goes; what counts is
	// that no more than two are ever open.
	refused := 0
	var mu sync.Mutex
	for range 20 {
		wg.Go(func() {
			if _, err := e.Generate(ctx, r, func(Chunk) error { return nil }); errors.Is(err, ErrBusy) {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	for s, began := e.Stats(), time.Now(); s.Refused < 10 && time.Since(began) < 10*time.Second; s = e.Stats() {
		if s.Running+s.Waiting > 2 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	close(release)
	wg.Wait()
	if refused < 10 {
		t.Errorf("%d of 20 refused", refused)
	}
}

func TestClose(t *testing.T) {
	m := load(t)
	e := engine(t, m, Options{Context: 512, Parallel: 1, Queue: 4})
	r := greedy(t, m, prompts[0], 0)
	r.Sampling.IgnoreEOS = true
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if c := collect(t.Context(), e, r); c.err != nil && !errors.Is(c.err, ErrClosed) {
				t.Errorf("%+v, %v", c.result, c.err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	e.Close()
	wg.Wait()
	if _, err := e.Generate(t.Context(), r, func(Chunk) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	e.Close() // again
}

func TestLikeliest(t *testing.T) {
	logits := []float32{1, 5, 3, 5, -1}
	for n, want := range []string{"[]", "[1]", "[1 3]", "[1 3 2]", "[1 3 2 0]", "[1 3 2 0 4]", "[1 3 2 0 4]"} {
		if got := fmt.Sprint(likeliest(logits, n)); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

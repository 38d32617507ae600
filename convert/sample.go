package convert

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"besa/internal/corpus"
	"besa/internal/tokenizer"
)

// maxKept bounds the documents that are kept of a corpus, in bytes: 128 windows
// of 2048 tokens are a megabyte, and of a web corpus one document in thirty is
// long enough for one.
const maxKept = 64 << 20

// readCorpus takes the windows from a text.
func (r *runner) readCorpus(ctx context.Context, tok *tokenizer.Tokenizer) (err error) {
	r.event(Event{Stage: StageTokenize})
	c := r.Calibration
	o := corpus.Options{Column: c.Column, Message: func(m string) { r.event(Event{Message: m}) }}
	if c.Stride > 0 {
		err = r.stride(o, tok)
	} else {
		err = r.sample(ctx, o, tok)
	}
	if err != nil {
		return err
	}
	if c.Samples == 0 && len(r.windows) < defaultSamples {
		r.event(Event{Message: fmt.Sprintf("calibration text holds %d tokens: %d windows of %d (%d are usual)",
			r.report.CalibTokens, len(r.windows), c.Len, defaultSamples)})
	}
	r.Calibration.Samples = len(r.windows)
	return nil
}

// stride takes windows at equal distances from the whole text.
func (r *runner) stride(o corpus.Options, tok *tokenizer.Tokenizer) error {
	text, err := corpus.Join(r.Calibration.Path, o)
	if err != nil {
		return err
	}
	ids, err := tok.Encode(text.Text)
	if err != nil {
		return fmt.Errorf("tokenise %s: %w", r.Calibration.Path, err)
	}
	r.sampling, r.textHash = SamplingStride, text.Hash
	return r.cut(ids)
}

// cut plans the windows of a text and takes them.
func (r *runner) cut(ids []int32) error {
	c, err := r.Calibration.plan(len(ids))
	if err != nil {
		return fmt.Errorf("%s: %w", r.Calibration.Path, err)
	}
	r.windows = nil
	for _, start := range c.starts(len(ids)) {
		r.windows = append(r.windows, ids[start:start+c.Len])
	}
	r.report.CalibTokens = len(ids)
	return nil
}

// sample takes windows as SparseGPT and Wanda do, whose calibration BESA uses:
// documents come in random order, and each that is longer than a window gives
// one, at a random place. Where there are too few of those, all documents are
// joined in that order, as many as are needed, and the text is cut into equal
// parts of which each gives a window at a random place. So every text serves
// that is long enough as a whole.
func (r *runner) sample(ctx context.Context, o corpus.Options, tok *tokenizer.Tokenizer) error {
	c := r.Calibration
	kept := &reservoir{seed: c.Seed, room: maxKept}
	summary, err := corpus.Read(c.Path, o, func(document string) error {
		kept.add(document)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	r.textHash = summary.Hash
	documents := kept.sorted()
	r.sampling = SamplingDocuments
	rng := rand.New(rand.NewPCG(c.Seed, 0x646f6373))
	for _, d := range documents {
		if len(r.windows) == c.wanted() {
			return nil
		}
		if len(d) <= c.Len { // a token is a byte at least
			continue
		}
		ids, err := tok.Encode(d)
		if err != nil {
			return fmt.Errorf("tokenise %s: %w", c.Path, err)
		}
		r.report.CalibTokens += len(ids)
		if len(ids) > c.Len {
			start := rng.IntN(len(ids) - c.Len + 1)
			r.windows = append(r.windows, ids[start:start+c.Len])
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if len(r.windows) == c.wanted() {
		return nil
	}
	r.sampling = SamplingPacked
	return r.pack(ctx, documents, tok)
}

// pack takes windows from documents that are joined.
func (r *runner) pack(ctx context.Context, documents []string, tok *tokenizer.Tokenizer) error {
	var ids []int32
	for i, d := range documents {
		if i > 0 {
			d = corpus.Separator + d
		}
		next, err := tok.Encode(d)
		if err != nil {
			return fmt.Errorf("tokenise %s: %w", r.Calibration.Path, err)
		}
		if ids = append(ids, next...); len(ids) >= r.Calibration.wanted()*r.Calibration.Len {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return r.cut(ids)
}

// reservoir keeps a random choice of documents. Every document draws a number;
// when the room is used up, the ones with the largest go.
type reservoir struct {
	seed  uint64
	room  int // bytes
	seen  uint64
	bytes int
	kept  []drawn // a heap, the largest number first
}

type drawn struct {
	number uint64
	text   string
}

func (r *reservoir) Len() int           { return len(r.kept) }
func (r *reservoir) Less(i, j int) bool { return r.kept[i].number > r.kept[j].number }
func (r *reservoir) Swap(i, j int)      { r.kept[i], r.kept[j] = r.kept[j], r.kept[i] }

// Push adds a document, for package heap.
func (r *reservoir) Push(d any) { r.kept = append(r.kept, d.(drawn)) }

// Pop removes the last document, for package heap.
func (r *reservoir) Pop() any {
	last := len(r.kept) - 1
	d := r.kept[last]
	r.kept[last] = drawn{}
	r.kept = r.kept[:last]
	return d
}

func (r *reservoir) add(text string) {
	number := rand.NewPCG(r.seed, r.seen).Uint64()
	r.seen++
	heap.Push(r, drawn{number, text})
	r.bytes += len(text)
	for r.bytes > r.room && len(r.kept) > 1 {
		r.bytes -= len(heap.Pop(r).(drawn).text)
	}
}

// sorted returns the documents in the order of their numbers: a random one.
func (r *reservoir) sorted() []string {
	slices.SortFunc(r.kept, func(a, b drawn) int { return cmp.Compare(a.number, b.number) })
	var texts []string
	for _, d := range r.kept {
		texts = append(texts, d.text)
	}
	return texts
}

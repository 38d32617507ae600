package selftext

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"besa/internal/demomodel"
	"besa/internal/kernel"
	"besa/internal/model"
	"besa/internal/tokenizer"
)

func open(t *testing.T) (*model.Model, Vocabulary, *tokenizer.Tokenizer) {
	t.Helper()
	path := demomodel.File(t)
	m, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	tok, err := tokenizer.New(m.File())
	if err != nil {
		t.Fatal(err)
	}
	separator, err := tok.Encode("\n\n")
	if err != nil {
		t.Fatal(err)
	}
	v := Vocabulary{Start: -1, Special: tok.Special(), Separator: separator}
	if bos, ok := tok.BOS(); ok {
		v.Start = bos
	}
	return m, v, tok
}

func write(t *testing.T, m *model.Model, v Vocabulary, threads int, o Options) [][]int32 {
	t.Helper()
	pool := kernel.NewPool(threads)
	defer pool.Close()
	var all [][]int32
	done := 0
	o.Written = func(first int, sequences [][]int32) error {
		if first != o.First+len(all) {
			t.Errorf("sequence %d comes after %d", first, o.First+len(all))
		}
		all = append(all, sequences...)
		return nil
	}
	o.Progress = func(now, total int) {
		if now < done || now > total {
			t.Errorf("progress from %d to %d of %d", done, now, total)
		}
		done = now
	}
	if err := Write(t.Context(), m, v, pool, o); err != nil {
		t.Fatal(err)
	}
	if done != o.Sequences*o.Tokens {
		t.Errorf("progress ends at %d of %d", done, o.Sequences*o.Tokens)
	}
	return all
}

// TestSequencesDependOnNothingElse: threads, memory and the sequence to start
// from change nothing, another seed everything.
func TestSequencesDependOnNothingElse(t *testing.T) {
	m, v, tok := open(t)
	o := Options{Sequences: 10, Tokens: 40, Seed: 5, Memory: 1 << 30}
	want := write(t, m, v, 2, o)
	for _, s := range want {
		if len(s) != o.Tokens {
			t.Fatalf("a sequence of %d tokens", len(s))
		}
	}
	lanes, _, err := plan(m, Options{Sequences: 10, Tokens: 40, Memory: 1 << 30})
	if err != nil || lanes != 10 {
		t.Errorf("%d lanes, %v", lanes, err)
	}
	tight := o
	for tight.Memory = 1 << 20; ; tight.Memory += 1 << 19 { // the least that does
		if lanes, resident, err := plan(m, tight); err == nil {
			if resident || lanes >= 10 {
				t.Errorf("%d bytes: %d lanes, weights in memory %v", tight.Memory, lanes, resident)
			}
			break
		} else if !errors.Is(err, ErrMemory) {
			t.Fatal(err)
		}
	}
	if got := write(t, m, v, 1, tight); !reflect.DeepEqual(got, want) {
		t.Error("in little memory, on one thread: other sequences")
	}
	later := o
	later.First = 7
	if got := write(t, m, v, 2, later); !reflect.DeepEqual(got, want[7:]) {
		t.Error("from the seventh on: other sequences")
	}
	o.Seed = 6
	if got := write(t, m, v, 2, o); reflect.DeepEqual(got, want) {
		t.Error("another seed gives the same")
	}
	// The demo model was trained on the Bible: it writes in its words.
	text, err := tok.Decode(want[0])
	if err != nil || !strings.Contains(text, " the ") && !strings.Contains(text, " and ") {
		t.Errorf("the model writes %q, %v", text, err)
	}
}

func TestTextsBeginAndEnd(t *testing.T) {
	m, v, _ := open(t)
	// Every second token ends a text.
	for id := range int32(m.Vocab) {
		if id%2 == 0 {
			v.Special = append(v.Special, id)
		}
	}
	v.Start, v.Separator = -1, []int32{-7}
	for _, s := range write(t, m, v, 2, Options{Sequences: 2, Tokens: 200, Memory: 1 << 30}) {
		ends, length := 0, 0
		for _, id := range s {
			switch {
			case id == -7:
				if length < shortest {
					t.Errorf("a text of %d tokens", length)
				}
				ends, length = ends+1, 0
			case id%2 == 0:
				t.Errorf("special token %d in a text", id)
			default:
				length++
			}
		}
		if ends < 3 {
			t.Errorf("of 200 tokens, %d texts", ends)
		}
	}
}

func TestWriteStops(t *testing.T) {
	m, v, _ := open(t)
	pool := kernel.NewPool(1)
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Sequences: 2, Tokens: 50, Memory: 1 << 30, Written: func(int, [][]int32) error { return nil }}
	o.Progress = func(int, int) { cancel() }
	if err := Write(ctx, m, v, pool, o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	o.Progress = nil
	full := errors.New("full")
	o.Written = func(int, [][]int32) error { return full }
	if err := Write(t.Context(), m, v, pool, o); !errors.Is(err, full) {
		t.Errorf("nowhere to write to: %v", err)
	}
	if err := Write(t.Context(), m, v, pool, Options{}); err == nil {
		t.Error("nothing to write is accepted")
	}
}

// TestSampleFollowsTheDistribution draws often and compares with softmax.
func TestSampleFollowsTheDistribution(t *testing.T) {
	logits := []float32{0, 1, 2, -3, 0.5}
	rng := rand.New(rand.NewPCG(1, 1))
	const draws = 200000
	var count [5]float64
	for range draws {
		count[sample(append([]float32(nil), logits...), rng)]++
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	for i, l := range logits {
		if p := math.Exp(float64(l)) / sum; math.Abs(count[i]/draws-p) > 0.005 {
			t.Errorf("token %d came in %g of all draws, its probability is %g", i, count[i]/draws, p)
		}
	}
	forbidden := append([]float32(nil), logits...)
	forbid(forbidden, []int32{2, 9})
	for range 100 {
		if sample(append([]float32(nil), forbidden...), rng) == 2 {
			t.Fatal("a forbidden token came")
		}
	}
	if got := sample([]float32{float32(math.NaN()), 1}, rng); got != -1 {
		t.Errorf("from NaN: token %d", got)
	}
}

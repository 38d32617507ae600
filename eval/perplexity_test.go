package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// fakeModel has one token per byte. It gives every token the same probability
// everywhere, exp(-nll[token]), and records the windows it is asked for.
type fakeModel struct {
	nll     map[int32]float64
	bos     int32 // with addBOS: put in front of the text
	addBOS  bool
	windows [][]int32
	from    []int
	fail    error
}

func (m *fakeModel) Tokenize(text string, special bool) (ids []int32, err error) {
	if special && m.addBOS {
		ids = append(ids, m.bos)
	}
	for _, b := range []byte(text) {
		ids = append(ids, int32(b))
	}
	return ids, m.fail
}

func (m *fakeModel) BOS() (int32, bool) { return m.bos, m.addBOS }
func (m *fakeModel) Vocab() int         { return 256 }
func (m *fakeModel) Close() error       { return nil }

func (m *fakeModel) NLL(_ context.Context, window []int32, from int) (out []float64, err error) {
	m.windows, m.from = append(m.windows, window), append(m.from, from)
	for _, id := range window[from:] {
		out = append(out, m.nll[id])
	}
	return out, m.fail
}

func (m *fakeModel) Logits(context.Context, []int32) ([]float32, error) {
	return nil, errors.New("not needed")
}

func text(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteByte(byte(id))
	}
	return b.String()
}

func TestPerplexityWindows(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		addBOS bool
		opts   PerplexityOptions
		want   string // windows, joined
		from   int
		tokens int
	}{
		"paper":                   {"abcdefghijk", false, PerplexityOptions{Ctx: 4}, "abcd|efgh", 1, 6},
		"paper, last line feed":   {"abcdefg\n", false, PerplexityOptions{Ctx: 4}, "abcd|efg\n", 1, 6},
		"paper, limit":            {"abcdefghijklm", false, PerplexityOptions{Ctx: 4, Limit: 2}, "abcd|efgh", 1, 6},
		"paper, BOS once":         {"abcdefghijk", true, PerplexityOptions{Ctx: 4}, "<abc|defg|hijk", 1, 9},
		"llama.cpp":               {"abcdefghijklmn", false, PerplexityOptions{Protocol: LlamaCpp, Ctx: 6}, "abcdef|ghijkl", 4, 4},
		"llama.cpp, BOS replaces": {"abcdefghijklmn", true, PerplexityOptions{Protocol: LlamaCpp, Ctx: 6}, "<abcde|<ghijk", 4, 4},
		"llama.cpp, odd window":   {"abcdefghijklmn", false, PerplexityOptions{Protocol: LlamaCpp, Ctx: 5}, "abcde|fghij", 3, 4},
		"llama.cpp, line feed":    {"abcdefgh\n\n", false, PerplexityOptions{Protocol: LlamaCpp, Ctx: 4}, "abcd|efgh", 3, 2},
		"llama.cpp, limit":        {"abcdefghijkl", false, PerplexityOptions{Protocol: LlamaCpp, Ctx: 4, Limit: 1}, "abcd", 3, 1},
	} {
		m := &fakeModel{bos: '<', addBOS: c.addBOS}
		got, err := Perplexity(t.Context(), m, c.text, c.opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var windows []string
		for i, w := range m.windows {
			windows = append(windows, text(w))
			if m.from[i] != c.from {
				t.Errorf("%s: window %d is scored from %d, want %d", name, i, m.from[i], c.from)
			}
		}
		if s := strings.Join(windows, "|"); s != c.want || got.Tokens != c.tokens || got.Windows != len(windows) {
			t.Errorf("%s: windows %q, %+v; want %q with %d tokens", name, s, got, c.want, c.tokens)
		}
	}
}

// TestPerplexityFigures checks the formulas on a case done by hand. Scored are
// b, c, d and f, g, h with NLL 1, 2, 3 and 1, 1, 4: mean 2, mean square 32/6,
// variance 4/3; perplexity e², standard error e²·√(4/15).
func TestPerplexityFigures(t *testing.T) {
	m := &fakeModel{nll: map[int32]float64{'a': 50, 'b': 1, 'c': 2, 'd': 3, 'e': 60, 'f': 1, 'g': 1, 'h': 4, 'i': 70}}
	var progress []string
	got, err := Perplexity(t.Context(), m, "abcdefghi", PerplexityOptions{Ctx: 4, OnProgress: func(done, total int, ppl float64) {
		progress = append(progress, fmt.Sprintf("%d/%d %.4f", done, total, ppl))
	}})
	if err != nil {
		t.Fatal(err)
	}
	e2 := math.Exp(2)
	for _, c := range []struct {
		name      string
		got, want float64
	}{{"nll", got.NLL, 2}, {"perplexity", got.Perplexity, e2}, {"standard error", got.StdErr, e2 * math.Sqrt(4.0/15)}} {
		if !(math.Abs(c.got-c.want) <= 1e-12*c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	if want := []string{"1/2 7.3891", "2/2 7.3891"}; !slices.Equal(progress, want) {
		t.Errorf("progress %q, want %q", progress, want)
	}
	got.Seconds = 1.5
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"protocol": "paper", "ctx": 4.0, "windows": 2.0, "tokens": 6.0, "text_tokens": 9.0, "seconds": 1.5} {
		if keys[key] != want {
			t.Errorf("JSON has %q: %v, want %v", key, keys[key], want)
		}
	}
}

func TestPerplexityConstant(t *testing.T) {
	m := &fakeModel{nll: map[int32]float64{'a': math.Ln2}}
	got, err := Perplexity(t.Context(), m, strings.Repeat("a", 50), PerplexityOptions{Ctx: 10})
	if err != nil || math.Abs(got.Perplexity-2) > 1e-12 || got.StdErr > 1e-6 {
		t.Errorf("%+v, %v; want a perplexity of 2 without error", got, err)
	}
}

func TestPerplexityRefuses(t *testing.T) {
	long := strings.Repeat("a", 100)
	for name, c := range map[string]struct {
		text string
		opts PerplexityOptions
		m    *fakeModel
		want string
	}{
		"empty text":          {"", PerplexityOptions{Ctx: 8}, &fakeModel{}, "text too short: it has 0 tokens, and protocol paper with windows of 8 tokens needs 8"},
		"short text":          {"abc", PerplexityOptions{}, &fakeModel{}, "it has 3 tokens, and protocol paper with windows of 2048 tokens needs 2048"},
		"one llama.cpp chunk": {long[:60], PerplexityOptions{Protocol: LlamaCpp, Ctx: 32}, &fakeModel{}, "needs 64"},
		"unknown protocol":    {long, PerplexityOptions{Protocol: "wikitext"}, &fakeModel{}, `unknown perplexity protocol "wikitext" (known: paper, llama.cpp)`},
		"tiny window":         {long, PerplexityOptions{Ctx: 3}, &fakeModel{}, "at least 4 tokens"},
		"negative window":     {long, PerplexityOptions{Ctx: -1}, &fakeModel{}, "at least 4 tokens"},
		"negative limit":      {long, PerplexityOptions{Ctx: 8, Limit: -1}, &fakeModel{}, "not negative"},
		"NaN":                 {long, PerplexityOptions{Ctx: 8}, &fakeModel{nll: map[int32]float64{'a': math.NaN()}}, "window 1 of 12: the model gives token 1 no finite probability"},
		"infinite":            {long, PerplexityOptions{Ctx: 8}, &fakeModel{nll: map[int32]float64{'a': math.Inf(1)}}, "no finite probability"},
		"failing model":       {long, PerplexityOptions{Ctx: 8}, &fakeModel{fail: errors.New("out of order")}, "out of order"},
	} {
		_, err := Perplexity(t.Context(), c.m, c.text, c.opts)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if short := strings.Contains(c.want, "needs"); errors.Is(err, ErrShortText) != short {
			t.Errorf("%s: is ErrShortText: %v", name, !short)
		}
	}
}

func TestPerplexityCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := &fakeModel{}
	_, err := Perplexity(ctx, m, strings.Repeat("a", 100), PerplexityOptions{Ctx: 10, OnProgress: func(done, _ int, _ float64) {
		if done == 3 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || len(m.windows) != 3 {
		t.Errorf("%v after %d windows, want a cancellation after 3", err, len(m.windows))
	}
}

func TestNegLogProb(t *testing.T) {
	for name, c := range map[string]struct {
		logits []float32
		token  int32
		want   float64
	}{
		"uniform":    {[]float32{3, 3, 3, 3}, 2, math.Log(4)},
		"by hand":    {[]float32{0, float32(math.Ln2)}, 0, math.Log(3)},
		"huge":       {[]float32{3e38, -3e38, 3e38}, 0, math.Ln2},
		"very small": {[]float32{-1e30, -1e30}, 1, math.Ln2},
		"one":        {[]float32{-7}, 0, 0},
		"hopeless":   {[]float32{0, -1000}, 1, 1000},
	} {
		if got := negLogProb(c.logits, c.token); !(math.Abs(got-c.want) <= 1e-7*max(1, c.want)) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := negLogProb([]float32{1, float32(math.NaN())}, 0); !math.IsNaN(got) {
		t.Errorf("NaN among the logits gives %v", got)
	}
}

func TestScoreRows(t *testing.T) {
	const vocab, rows = 7, 53
	logits := make([]float32, rows*vocab)
	targets := make([]int32, rows)
	for i := range logits {
		logits[i] = float32(i*7919%101) / 10
	}
	got := make([]float64, rows)
	for i := range targets {
		targets[i] = int32(i * 5 % vocab)
	}
	scoreRows(got, logits, targets)
	for i, x := range got {
		if want := negLogProb(logits[i*vocab:(i+1)*vocab], targets[i]); x != want {
			t.Errorf("row %d: %v, want %v", i, x, want)
		}
	}
}

func TestCheckWindow(t *testing.T) {
	for _, c := range []struct {
		window []int32
		from   int
		ok     bool
	}{
		{[]int32{1, 2, 3}, 1, true}, {[]int32{1, 2, 3}, 2, true}, {[]int32{1, 2, 3}, 3, false}, {[]int32{1, 2, 3}, 0, false},
		{nil, 1, false}, {[]int32{1, 10}, 1, false}, {[]int32{-1, 1}, 1, false},
	} {
		if err := checkWindow(c.window, c.from, 10); (err == nil) != c.ok {
			t.Errorf("%v from %d: %v", c.window, c.from, err)
		}
	}
}

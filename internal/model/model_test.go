package model

import (
	"math"
	"testing"

	"besa/internal/assets"
	"besa/internal/decoder"
	"besa/internal/golden"
	"besa/internal/kernel"
)

// worst returns the largest |got − want|; NaN counts as infinite.
func worst(got, want []float32) float64 {
	var w float64
	for i := range want {
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= w) {
			w = d
			if math.IsNaN(d) {
				return math.Inf(1)
			}
		}
	}
	return w
}

// TestSmolLM2AgainstReference compares the whole forward pass with PyTorch's,
// block outputs included.
func TestSmolLM2AgainstReference(t *testing.T) {
	m, err := Open(assets.Path(t, assets.SmolLM2))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	f := golden.Open(t, "testdata/block0.safetensors")
	pool := kernel.NewPool(2)
	defer pool.Close()
	r, err := NewRunner(m, 16, pool)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	for _, id := range f.Ints("token_ids") {
		ids = append(ids, int32(id))
	}
	checkBlock0(t, r, f)
	names := map[int]string{0: "block0_out", 7: "hidden_after_block7", 14: "hidden_after_block14", 22: "hidden_after_block22", 29: "hidden_after_block29"}
	final, err := r.Hidden(t.Context(), ids, func(block int, out kernel.Mat[float32]) {
		if name, ok := names[block]; ok {
			// Hidden states reach 1e4 in this model: compare with the largest.
			want := f.Floats(name)
			var top float64
			for _, v := range want {
				top = max(top, math.Abs(float64(v)))
			}
			if e := worst(out.Data[:len(want)], want); !(e <= 2e-5*top+1e-4) {
				t.Errorf("%s is off by %g (largest value %g)", name, e, top)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := worst(final.Data, f.Floats("final_norm_out")); !(e <= 2e-3) {
		t.Errorf("final norm is off by %g", e)
	}
	if err := r.Logits(t.Context(), ids, 0, func(first int, logits []float32) {
		for ; len(logits) > 0; first, logits = first+1, logits[m.Vocab:] {
			checkLogits(t, f, ids, first, logits[:m.Vocab])
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// checkLogits compares one row of logits: argmax, likelihood of the next token,
// and at the last position all values.
func checkLogits(t *testing.T, f *golden.File, ids []int32, pos int, logits []float32) {
	t.Helper()
	best, sum := 0, 0.0
	for i, v := range logits {
		sum += math.Exp(float64(v))
		if v > logits[best] {
			best = i
		}
	}
	if want := f.Ints("argmax_per_pos")[pos]; best != want {
		t.Errorf("position %d: argmax %d, want %d", pos, best, want)
	}
	if pos == len(ids)-1 {
		if e := worst(logits, f.Floats("logits_last_pos")); !(e <= 2e-3) {
			t.Errorf("last logits are off by %g", e)
		}
		return
	}
	want := float64(f.Floats("nll_per_pos")[pos])
	if got := math.Log(sum) - float64(logits[ids[pos+1]]); !(math.Abs(got-want) <= 1e-3) {
		t.Errorf("position %d: NLL %g, want %g", pos, got, want)
	}
}

// checkBlock0 compares the inputs of block 0's linear layers.
func checkBlock0(t *testing.T, r *Runner, f *golden.File) {
	t.Helper()
	x := kernel.MatOf(16, 576, f.Floats("block0_in"))
	if err := r.engine.Forward(r.blocks[0], x, r.acts); err != nil {
		t.Fatal(err)
	}
	for l, name := range map[decoder.Linear]string{decoder.Q: "q_proj", decoder.O: "o_proj", decoder.Gate: "gate_proj", decoder.Down: "down_proj"} {
		in := r.acts.Input(l)
		if e := worst(in.Data, f.Floats("in."+name)); !(e <= 1e-4) {
			t.Errorf("input of %s is off by %g", l, e)
		}
	}
	if e := worst(r.acts.Out.Data, f.Floats("block0_out")); !(e <= 1e-3) {
		t.Errorf("block 0 is off by %g", e)
	}
}

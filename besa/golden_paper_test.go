package besa

import (
	"fmt"
	"slices"
	"testing"

	"besa/internal/golden"
	"besa/internal/kernel"
)

// TestPaperMaskReference holds the paper's rule to the goldens of Eq 3–6 as
// printed: the official code's distribution without p = 1 and p = 0.
func TestPaperMaskReference(t *testing.T) {
	for _, d := range []int{10, 100} {
		for _, granularity := range Granularities {
			for _, kind := range []string{"sigmoid", "plain"} {
				name := fmt.Sprintf("betagrad_D%d_%s_%s", d, granularity, kind)
				t.Run(name, func(t *testing.T) { checkPaperMask(t, reference(t, name), d, granularity, kind == "plain") })
			}
		}
	}
}

func checkPaperMask(t *testing.T, f *golden.File, d int, granularity Granularity, plain bool) {
	w, rank := rankedWeight(t, f)
	a := NewAllocation(w.Rows, w.Cols, NewCandidates(1/float64(d), RulePaper), 0, granularity)
	a.Plain = plain
	for i := range a.distributions() {
		copy(a.Logits[i*(d-1):], f.Floats("logits")[i*(d+1)+1:][:d-1])
	}
	a.Update(nil)
	// The goldens list p_1 … p_D in ascending order; β_D is zero there.
	ascending := func(values []float32) []float32 {
		var all []float32
		for i := range a.distributions() {
			one := slices.Clone(values[i*(d-1) : (i+1)*(d-1)])
			slices.Reverse(one)
			all = append(append(all, one...), 0)
		}
		return all
	}
	near(t, "paper.betas", ascending(a.Beta), f.Floats("paper.betas"), 1e-7, 1e-5)
	near(t, "paper.alpha", a.Alpha, f.Floats("paper.alpha"), 1e-6, 0)
	mask := f.Floats("paper.hard_mask_sorted")
	for i, c := range f.Ints("paper.prune_count_rows") {
		if a.Prune[i] != c {
			t.Errorf("row %d prunes %d, want %d", i, a.Prune[i], c)
		}
		for k, keep := range mask[i*w.Cols : (i+1)*w.Cols] {
			if kept := k >= a.Prune[i]; kept != (keep == 1) {
				t.Fatalf("row %d, rank %d: kept is %t, want %g", i, k, kept, keep)
			}
		}
	}
	// Of the gradient: what β gets before the softmax.
	dMask := matrix(f, "dL_dMask")
	sums := make([]float32, w.Cols)
	ones := slices.Repeat([]float32{1}, w.Cols)
	got := make([]float32, a.distributions()*(d-1))
	for i := range w.Rows {
		kernel.RankSums(sums, ones, dMask.Row(i), rank.Row(i))
		dBeta := make([]float32, d-1)
		a.betaGrad(dBeta, sums, 0)
		sum := got[i%a.distributions()*(d-1):][:d-1] // of all rows where they share a distribution
		kernel.Add(sum, sum, dBeta)
	}
	want := slices.Clone(f.Floats("paper.dL_dbeta_maskterm"))
	for i := range a.distributions() {
		want[i*d+d-1] = 0 // β_D is fixed
	}
	near(t, "paper.dL_dbeta_maskterm", ascending(got), want, 1e-5, 1e-4)
}

package besa

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"besa/internal/kernel"
)

func TestSparseGPTReference(t *testing.T) {
	f := reference(t, "sparsegpt")
	var h Hessian
	h.Add(nil, matrix(f, "x"))
	fac, err := h.factorize(nil)
	if err != nil {
		t.Fatal(err)
	}
	// The reference's Hessian is 2XᵀX: its factor is ours over √2.
	want := f.Floats("Hinv_chol_upper")
	for i := range want {
		want[i] *= math.Sqrt2
	}
	near(t, "U", fac.U.Data, want, 2e-6, 1e-4)
	for _, c := range []struct {
		name  string
		width int
		count float64 // the official threshold prunes one weight more per block
	}{{"128", 128, 513. / 1024}, {"32", 32, 257. / 512}} {
		w := matrix(f, "weight")
		keep := sparseGPT(nil, w, fac, c.count, Pattern{}, c.width)
		for i, m := range f.Floats("mask_bs" + c.name) {
			if keep[i] != (m != 0) {
				t.Fatalf("width %s: keep[%d] = %v", c.name, i, keep[i])
			}
		}
		near(t, "weight_pruned_bs"+c.name, w.Data, f.Floats("weight_pruned_bs"+c.name), 1e-5, 1e-4)
	}
}

// random returns a rows×cols matrix of standard normal numbers.
func random(rows, cols int, seed uint64) kernel.Mat[float32] {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := kernel.NewMat[float32](rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}

// outputError is ‖x·(a − b)ᵀ‖².
func outputError(x, a, b kernel.Mat[float32]) float64 {
	d := kernel.NewMat[float32](a.Rows, a.Cols)
	for i := range d.Data {
		d.Data[i] = a.Data[i] - b.Data[i]
	}
	y := kernel.NewMat[float32](x.Rows, a.Rows)
	kernel.MulNT(nil, y, x, d, false)
	var sum float64
	for _, v := range y.Data {
		sum += float64(v) * float64(v)
	}
	return sum
}

// correlated inputs: neighbours share most of their signal, so that an update
// has something to gain.
func correlated(rows, cols int, seed uint64) kernel.Mat[float32] {
	x, shared := random(rows, cols, seed), random(rows, 4, seed+1)
	for i := range rows {
		row := x.Row(i)
		for j := range row {
			row[j] = 0.5*row[j] + shared.Row(i)[j%4]
		}
	}
	return x
}

// factored returns the Hessian of inputs x and its factor.
func factored(t *testing.T, x kernel.Mat[float32]) (*Hessian, *factor) {
	t.Helper()
	h := new(Hessian)
	h.Add(nil, x)
	fac, err := h.factorize(nil)
	if err != nil {
		t.Fatal(err)
	}
	return h, fac
}

func TestSparseGPTCountsAndGain(t *testing.T) {
	x, dense := correlated(400, 200, 3), random(24, 200, 5)
	_, fac := factored(t, x)
	for _, s := range []float64{0, 0.3, 0.5, 0.77} {
		w := kernel.NewMat[float32](24, 200)
		copy(w.Data, dense.Data)
		keep := sparseGPT(nil, w, fac, s, Pattern{}, sweepWidth)
		pruned, masked := 0, kernel.NewMat[float32](24, 200)
		for k, kept := range keep {
			if !kept {
				pruned++
				if w.Data[k] != 0 {
					t.Fatalf("sparsity %g: pruned weight %d is %g", s, k, w.Data[k])
				}
				continue
			}
			masked.Data[k] = dense.Data[k]
		}
		if want := int(math.Round(s * float64(len(keep)))); pruned != want {
			t.Errorf("sparsity %g: %d pruned, want %d", s, pruned, want)
		}
		updated, plain := outputError(x, w, dense), outputError(x, masked, dense)
		if s > 0 && updated > 0.7*plain {
			t.Errorf("sparsity %g: error %g with the update, %g without", s, updated, plain)
		}
		if s == 0 && updated != 0 {
			t.Errorf("nothing pruned, error %g", updated)
		}
	}
}

func TestPattern(t *testing.T) {
	x, w := correlated(100, 66, 1), random(5, 66, 2)
	_, fac := factored(t, x)
	for _, pattern := range []Pattern{{2, 4}, {4, 8}, {3, 4}, {32, 64}} {
		keep := sparseGPT(nil, w, fac, 0.5, pattern, 32)
		checkPattern(t, "sparsegpt", keep, 66, pattern)
		rank, prune, err := patternMask(nil, w, nil, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for i := range w.Rows {
			row := make([]bool, w.Cols)
			for j, r := range rank.Row(i) {
				row[j] = int(r) >= prune[i]
			}
			checkPattern(t, "magnitude", row, 66, pattern)
			for lo := 0; lo+pattern.M <= w.Cols; lo += pattern.M {
				var least, most float32 = math.MaxFloat32, 0 // kept, pruned
				for j := lo; j < lo+pattern.M; j++ {
					if v := abs32(w.Row(i)[j]); row[j] {
						least = min(least, v)
					} else {
						most = max(most, v)
					}
				}
				if most > least {
					t.Fatalf("%v row %d group at %d: prunes %g, keeps %g", pattern, i, lo, most, least)
				}
			}
		}
	}
}

func checkPattern(t *testing.T, what string, keep []bool, cols int, pattern Pattern) {
	t.Helper()
	for k := 0; k < len(keep); k += cols {
		for lo := 0; lo < cols; lo += pattern.M {
			group := keep[k+lo : k+min(lo+pattern.M, cols)]
			pruned := 0
			for _, kept := range group {
				if !kept {
					pruned++
				}
			}
			if want := len(group) * (pattern.M - pattern.N) / pattern.M; pruned != want {
				t.Fatalf("%s %v: %d of %d pruned at %d, want %d", what, pattern, pruned, len(group), k+lo, want)
			}
		}
	}
}

func TestParsePattern(t *testing.T) {
	for s, want := range map[string]Pattern{"": {}, "2:4": {2, 4}, "4:8": {4, 8}, "32:64": {32, 64}} {
		if got, err := ParsePattern(s); err != nil || got != want || got.String() != s {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"2", "4:4", "0:4", "2:4x", "5:4", "2:128", ":", "a:b", "-1:4"} {
		if _, err := ParsePattern(s); !errors.Is(err, ErrOptions) {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

func TestDeadChannelsAndFewSamples(t *testing.T) {
	x := random(10, 40, 1) // fewer samples than channels: H is singular without damping
	for i := range x.Rows {
		x.Row(i)[7] = 0
	}
	h, fac := factored(t, x)
	if s := fac.scales(); s[7] != 0 || s[8] <= 0 {
		t.Errorf("scales %v", s)
	}
	w := random(6, 40, 2)
	keep := sparseGPT(nil, w, fac, 0.5, Pattern{}, sweepWidth)
	for i := range w.Rows {
		if keep[i*40+7] {
			t.Errorf("row %d keeps a weight on a dead channel", i)
		}
		for _, v := range w.Row(i) {
			if !(abs32(v) < math.MaxFloat32) {
				t.Fatalf("row %d holds %g", i, v)
			}
		}
	}
	x.Row(3)[3] = float32(math.NaN())
	*h = Hessian{}
	h.Add(nil, x)
	if _, err := h.factorize(nil); err == nil {
		t.Error("NaN inputs are accepted")
	}
}

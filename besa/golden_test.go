package besa

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"besa/internal/decoder"
	"besa/internal/golden"
	"besa/internal/kernel"
)

func reference(t *testing.T, name string) *golden.File {
	t.Helper()
	return golden.Open(t, filepath.Join("testdata", name+".safetensors"))
}

func matrix(f *golden.File, name string) kernel.Mat[float32] {
	s := f.Shape(name)
	return kernel.MatOf(s[0], s[1], f.Floats(name))
}

// near fails unless every |got − want| ≤ abs + rel·|want|; NaN fails.
func near(t *testing.T, what string, got, want []float32, abs, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	worst, at := 0.0, -1
	for i := range got {
		e := math.Abs(float64(got[i])-float64(want[i])) - rel*math.Abs(float64(want[i]))
		if !(e <= abs) && !(e <= worst) {
			worst, at = e, i
		}
	}
	if at >= 0 {
		t.Errorf("%s[%d] = %g, want %g (beyond %g + %g·|want|)", what, at, got[at], want[at], abs, rel)
	}
}

func TestWandaReference(t *testing.T) {
	f := reference(t, "wanda")
	w, x := matrix(f, "weight"), matrix(f, "x")
	var norms InputNorms
	norms.Add(nil, x)
	rank, err := Rank(nil, w, norms.Norms())
	if err != nil {
		t.Fatal(err)
	}
	order := f.Ints("sort_indices")
	for i := range w.Rows {
		for k, j := range order[i*w.Cols : (i+1)*w.Cols] {
			if got := rank.Row(i)[j]; int(got) != k {
				t.Fatalf("row %d column %d has rank %d, want %d", i, j, got, k)
			}
		}
	}
	pruned := kernel.NewMat[float32](w.Rows, w.Cols)
	applyMask(nil, pruned, w, rank, uniformCounts(w.Rows, w.Cols, 0.5))
	near(t, "weight_pruned", pruned.Data, f.Floats("weight_pruned"), 0, 0)
}

func TestAllocationReference(t *testing.T) {
	for _, d := range []string{"D10", "D100"} {
		for _, granularity := range Granularities {
			for _, kind := range []string{"sigmoid", "plain"} {
				name := fmt.Sprintf("betagrad_%s_%s_%s", d, granularity, kind)
				t.Run(name, func(t *testing.T) { checkAllocation(t, reference(t, name), granularity, kind == "plain") })
			}
		}
	}
}

// rankedWeight returns a golden's weight and its ranking by Wanda's importance.
func rankedWeight(t *testing.T, f *golden.File) (kernel.Mat[float32], *Ranking) {
	t.Helper()
	w := matrix(f, "weight")
	var norms InputNorms
	norms.Add(nil, matrix(f, "x"))
	rank, err := Rank(nil, w, norms.Norms())
	if err != nil {
		t.Fatal(err)
	}
	return w, rank
}

func checkAllocation(t *testing.T, f *golden.File, granularity Granularity, plain bool) {
	w, rank := rankedWeight(t, f)
	a := NewAllocation(w.Rows, w.Cols, Candidates{P: f.Floats("candidates")}, 0, granularity)
	a.Plain = plain
	for i, c := range f.Ints("cand_prune_counts") {
		if a.counts[i] != c {
			t.Fatalf("candidate %d prunes %d, want %d", i, a.counts[i], c)
		}
	}
	copy(a.Logits, f.Floats("logits"))
	a.Update(nil)
	near(t, "simplex", a.Beta, f.Floats("simplex"), 1e-7, 1e-5)
	if granularity == GranularityRow {
		near(t, "alpha", a.Alpha, f.Floats("alpha_rows"), 1e-6, 0)
	} else {
		near(t, "alpha", a.Alpha[:1], f.Floats("alpha"), 1e-6, 0)
	}
	for i, c := range f.Ints("prune_count_rows") {
		if a.Prune[i] != c {
			t.Errorf("row %d prunes %d, want %d", i, a.Prune[i], c)
		}
	}
	mask := maskBits(nil, rank, a.Prune)
	for i, m := range f.Floats("hard_mask") {
		if got := mask[i/w.Cols] >> (i % w.Cols) & 1; float32(got) != m {
			t.Fatalf("mask bit %d is %d, want %g", i, got, m)
		}
	}

	// The golden gives dL/dM; ŵ = w∘M with w = 1 makes dw equal to it.
	ones := kernel.NewMat[float32](w.Rows, w.Cols)
	for i := range ones.Data {
		ones.Data[i] = 1
	}
	a.Backward(nil, rank, ones, matrix(f, "dL_dMask"), nil, 0)
	near(t, "mask term", a.Grad, f.Floats("dL_dlogits_maskterm"), 1e-6, 1e-4)

	s := a.Sum() / float64(w.Rows*w.Cols)
	_, ds := penalty(LossOfficial, 5, s, 0.5)
	zero := kernel.NewMat[float32](w.Rows, w.Cols)
	a.Backward(nil, rank, ones, zero, nil, float32(ds/float64(w.Rows)))
	near(t, "sparsity term", a.Grad, f.Floats("dL_dlogits_sparsityterm"), 1e-8, 1e-3)
}

func TestProdigyReference(t *testing.T) {
	for _, coef := range []float64{1, 5} {
		t.Run(fmt.Sprint("d_coef ", coef), func(t *testing.T) {
			f := reference(t, fmt.Sprintf("prodigy_dcoef%g", coef))
			x := [2][]float32{f.Floats("x1_init"), f.Floats("x2_init")}
			a := [2][]float32{f.Floats("a1"), f.Floats("a2")}
			b := [2][]float32{f.Floats("b1"), f.Floats("b2")}
			want := [2][]float32{f.Floats("x1_after_step"), f.Floats("x2_after_step")}
			grad := [2][]float32{make([]float32, len(x[0])), make([]float32, len(x[1]))}
			scalars := f.Doubles("scalars_loss_d_dhat_dmax_dnum_dden")
			o := newProdigy(nil, coef, param{x[0], grad[0]}, param{x[1], grad[1]})
			for step := range 20 {
				for p := range x {
					for i := range x[p] {
						grad[p][i] = a[p][i] * (x[p][i] - b[p][i])
					}
				}
				o.step()
				for p := range x {
					n := len(x[p])
					near(t, fmt.Sprintf("x%d after step %d", p+1, step+1), x[p], want[p][step*n:(step+1)*n], 1e-4, 1e-3)
				}
				for i, got := range []float64{o.d, o.dHat, o.dMax, o.numerator, o.denominator} {
					if w := scalars[step*6+1+i]; !(math.Abs(got-w) <= 1e-3*math.Abs(w)) {
						t.Fatalf("step %d scalar %d is %g, want %g", step+1, i, got, w)
					}
				}
			}
		})
	}
}

func TestClippingReference(t *testing.T) {
	f := reference(t, "lwc_fakequant")
	w := matrix(f, "weight")
	c := newClipping(GridAsymmetric, w.Rows, w.Cols, 32)
	c.round = func(h float32) float32 { return h } // the golden's steps are not rounded to fp16
	c.fitRange(nil, w, true)
	near(t, "max", c.top, f.Floats("max"), 0, 0)
	near(t, "min", c.low, f.Floats("min"), 0, 0)
	copy(c.raw[0], f.Floats("raw0"))
	copy(c.raw[1], f.Floats("raw1"))
	c.update(nil)
	near(t, "h", c.step, f.Floats("h"), 0, 1e-6)
	near(t, "zero", c.zero, f.Floats("zero"), 0, 0)
	rank, err := Rank(nil, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	none := make([]int, w.Rows) // pruned
	got := kernel.NewMat[float32](w.Rows, w.Cols)
	c.applyMask(nil, got, w, rank, none)
	near(t, "dequant", got.Data, f.Floats("dequant"), 1e-6, 1e-5)
	for i, q := range f.Floats("code") {
		if codes := c.codes(nil, w); float32(codes[i]) != q {
			t.Fatalf("code %d is %d, want %g", i, codes[i], q)
		}
	}
	c.backward(nil, w, matrix(f, "dL_dQ"), rank, none)
	near(t, "dL/draw0", c.rawGrad[0], f.Floats("ste_zero.dL_draw0"), 1e-5, 1e-3)
	near(t, "dL/draw1", c.rawGrad[1], f.Floats("ste_zero.dL_draw1"), 1e-5, 1e-3)
}

// hfNames are the goldens' names of the linear layers.
var hfNames = [decoder.NumLinears]string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

// windows are calibration windows in one slice.
type windows struct {
	n, tokens, hidden int
	data              []float32
}

func (w windows) Len() int { return w.n }

func (w windows) window(i int) kernel.Mat[float32] {
	size := w.tokens * w.hidden
	return kernel.MatOf(w.tokens, w.hidden, w.data[i*size:(i+1)*size])
}

func (w windows) Load(i int) (kernel.Mat[float32], error) { return w.window(i), nil }

func (w windows) Store(i int, m kernel.Mat[float32]) error {
	kernel.Copy(nil, w.window(i), m)
	return nil
}

// tinySession prepares the goldens' block, its inputs and the official candidates.
func tinySession(t *testing.T, f *golden.File, granularity Granularity, threads int) *session {
	t.Helper()
	pool := kernel.NewPool(threads)
	t.Cleanup(pool.Close)
	eng, err := decoder.NewEngine[float32](decoder.Config{
		Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16, Eps: 1e-5,
		RopeLayout: decoder.RopeHalves, RopeDim: 16, RopeBase: 10000, RopeScale: 1,
	}, 16, pool)
	if err != nil {
		t.Fatal(err)
	}
	b := &decoder.Block[float32]{AttnNorm: f.Floats("w.ln1"), FFNNorm: f.Floats("w.ln2")}
	for l, name := range hfNames {
		b.W[l] = matrix(f, "w."+name)
	}
	in := windows{8, 16, 64, f.Floats("x")}
	ref := windows{8, 16, 64, make([]float32, len(in.data))}
	opts := DefaultOptions()
	opts.Granularity = granularity
	s := newSession(Job{Engine: eng, Block: b, In: in, Ref: ref}, opts)
	if err := s.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	near(t, "ref_out", ref.data, f.Floats("ref_out"), 2e-5, 1e-5)
	if err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	official := Candidates{P: reference(t, "betagrad_D100_row_sigmoid").Floats("candidates")}
	for l, a := range s.alloc {
		s.alloc[l] = NewAllocation(a.Rows, a.Cols, official, 0, granularity)
		if name := "init_logits." + hfNames[l]; f.Has(name) {
			copy(s.alloc[l].Logits, f.Floats(name))
		}
	}
	return s
}

// tolerances of a tinyblock golden; see the README beside the originals: the
// official code's own fp32 and fp64 runs differ by this much.
type tolerances struct {
	steps       int
	loss        float64 // relative, per step
	countsEqual float64 // share of equal prune counts …
	countsUntil int     // … over the first so many steps
	masks       float64 // share of equal bits in the final masks
	alpha       float64
}

func TestTinyBlockReference(t *testing.T) {
	for name, tol := range map[string]tolerances{
		"tinyblock_row_rand":      {8, 1e-3, 0.999, 8, 0.999, 1e-3},
		"tinyblock_row_zero":      {8, 0.13, 0, 0, 0.97, 0.02},
		"tinyblock_row_rand_adam": {8, 0.014, 0.93, 8, 0.998, 0.02},
		"tinyblock_row_rand_e8":   {64, 0.075, 0.99, 20, 0.994, 0.064},
		"tinyblock_layer_zero":    {8, 1e-3, 0.999, 8, 0.999, 1e-4},
		"tinyblock_layer_zero_e8": {64, 0.024, 0.99, 20, 1, 7e-3},
	} {
		t.Run(name, func(t *testing.T) {
			f := reference(t, name)
			granularity := GranularityRow
			if strings.Contains(name, "layer") {
				granularity = GranularityLayer
			}
			s := tinySession(t, f, granularity, 2)
			var params []param
			for _, a := range s.alloc {
				params = append(params, param{a.Logits, a.Grad})
			}
			var opt optimizer = newProdigy(s.pool, 5, params...)
			if name == "tinyblock_row_rand_adam" {
				opt = newAdam(s.pool, 0.3, params...)
			}
			runTinyBlock(t, s, f, opt, tol)
		})
	}
}

func runTinyBlock(t *testing.T, s *session, f *golden.File, opt optimizer, tol tolerances) {
	t.Helper()
	s.startLearning()
	u := s.units()[0]
	scalars := f.Doubles("scalars_loss_l2_alpha_d_dhat")
	equal, counted := 0, 0
	for step := range tol.steps {
		loss, err := u.step(step % 8)
		if err != nil {
			t.Fatal(err)
		}
		if want := scalars[step*5]; !(math.Abs(loss.Loss-want) <= tol.loss*want) {
			t.Errorf("step %d: loss %g, want %g", step+1, loss.Loss, want)
		}
		for l, name := range hfNames {
			a := s.alloc[l]
			if grad := "grad_logits_step1." + name; step == 0 && f.Has(grad) {
				near(t, grad, a.Grad, f.Floats(grad), 2e-7, 2e-3)
			}
			if step < tol.countsUntil {
				want := f.Ints("prune_counts_per_step." + name)
				for i, c := range a.Prune {
					counted++
					if c == want[step*a.Rows+i] {
						equal++
					}
				}
			}
		}
		opt.step()
		for l, name := range hfNames {
			if after := "logits_after_step1." + name; step == 0 && f.Has(after) {
				near(t, after, s.alloc[l].Logits, f.Floats(after), 3e-4, 0)
			}
		}
	}
	if float64(equal) < tol.countsEqual*float64(counted) {
		t.Errorf("%d of %d prune counts equal the reference's, want %.1f %%", equal, counted, 100*tol.countsEqual)
	}
	u.update()
	compareFinal(t, s, f, tol)
}

func compareFinal(t *testing.T, s *session, f *golden.File, tol tolerances) {
	t.Helper()
	same, bits := 0, 0
	for l, name := range hfNames {
		alpha := f.Floats("final_alpha." + name)
		near(t, "final_alpha."+name, s.alloc[l].Alpha[:len(alpha)], alpha, tol.alpha, 0)
		mask := maskBits(s.pool, s.rank[l], s.prune[l])
		cols := s.Block.W[l].Cols
		words := (cols + 63) / 64
		for i, want := range f.Ints("final_mask." + name) {
			row, col := i/cols, i%cols
			bits++
			if int(mask[row*words+col/64]>>(col%64)&1) == want {
				same++
			}
		}
	}
	if float64(same) < tol.masks*float64(bits) {
		t.Errorf("%.3f %% of the final mask equals the reference's, want %.1f %%", 100*float64(same)/float64(bits), 100*tol.masks)
	}
}

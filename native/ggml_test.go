package native

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"besa/gguf"
	"besa/internal/assets"
	"besa/sparsefmt"
)

// Where a weight can lie.
const (
	ours     = "CPU_BESA"
	repacked = "CPU_REPACK"
	plainCPU = "CPU"
)

// inGGML loads ggml's libraries and the plugin into this process; the plugin is
// the test library itself.
func inGGML(t testing.TB) *library {
	t.Helper()
	dir := assets.Path(t, assets.Llama)
	l := loadKernels(t)
	if wrong := l.ggml(dir, testLibrary); wrong != "" {
		t.Fatal(wrong)
	}
	return l
}

// weights puts one matrix into a buffer type, n times over.
func (l *library) weights(t testing.TB, buft string, kind gguf.Type, rows, cols int, data [][]byte) []uintptr {
	t.Helper()
	var all []uintptr
	for _, d := range data {
		w := l.weight(buft, "w", int32(kind), int64(rows), int64(cols), unsafe.Pointer(&d[0]))
		if w == 0 {
			t.Fatalf("%s does not take a %v tensor of %d×%d", buft, kind, rows, cols)
		}
		t.Cleanup(func() { l.free(w) })
		all = append(all, w)
	}
	return all
}

// run multiplies in ggml and returns the products and the seconds of each run.
func (l *library) run(t testing.TB, w []uintptr, rows, tokens, threads, repeats int, x []float32) ([]float32, []float64) {
	t.Helper()
	y, seconds := make([]float32, len(w)*tokens*rows), make([]float64, repeats)
	if status := l.products(unsafe.Pointer(&w[0]), int32(len(w)), int32(tokens), unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), int32(threads),
		int32(repeats), unsafe.Pointer(&seconds[0])); status != 0 {
		t.Fatalf("ggml: status %d", status)
	}
	return y, seconds
}

// With more tokens than a few, products of Q4_0 have the very bits of stock's
// repacked form, however the work is divided among threads.
func TestManyTokensAreStocks(t *testing.T) {
	l := inGGML(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, s := range []struct{ rows, cols, group int }{{48, 2080, 32}, {200, 576, 64}, {72, 1536, 128}} {
		data := [][]byte{prunedQ4(rnd, s.rows, s.cols, s.group, 0.5, 0)}
		us, stock := l.weights(t, ours, gguf.Q4_0, s.rows, s.cols, data), l.weights(t, repacked, gguf.Q4_0, s.rows, s.cols, data)
		for _, tokens := range []int{few + 1, 8, 13, 64} {
			x := normal(rnd, tokens*s.cols)
			want, _ := l.run(t, stock, s.rows, tokens, 1, 1, x)
			for _, threads := range []int{1, 2} {
				if got, _ := l.run(t, us, s.rows, tokens, threads, 1, x); !slices.Equal(got, want) {
					t.Errorf("%d×%d by %d, %d tokens, %d threads: %.2g from stock's product", s.rows, s.cols, s.group, tokens, threads, distance(got, want))
				}
			}
		}
	}
}

// A few tokens give the same bits for any number of threads, more than there are
// tiles to share included, whether each thread quantises them for itself or all
// do it together (of 3 and 4 tokens with 2080 columns).
func TestFewTokensDoNotDependOnThreads(t *testing.T) {
	l := inGGML(t)
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, s := range []struct{ rows, cols, group int }{{1, 64, 32}, {48, 2080, 32}, {200, 576, 64}, {71, 1536, 128}} {
		data := [][]byte{prunedQ4(rnd, s.rows, s.cols, s.group, 0.5, 0)}
		us := l.weights(t, ours, gguf.Q4_0, s.rows, s.cols, data)
		for tokens := 1; tokens <= few; tokens++ {
			x := normal(rnd, tokens*s.cols)
			want, _ := l.run(t, us, s.rows, tokens, 1, 1, x)
			for _, threads := range []int{2, 3, 7} {
				if got, _ := l.run(t, us, s.rows, tokens, threads, 1, x); !slices.Equal(got, want) {
					t.Errorf("%d×%d by %d, %d tokens: %d threads give other products than one", s.rows, s.cols, s.group, tokens, threads)
				}
			}
		}
	}
}

// While tensors are on offer, others come to the plugin only if stock may repack
// them: a dense head of another type would be in memory beside the embedding it is.
func TestOffersLeaveOthers(t *testing.T) {
	l := inGGML(t)
	const rows, cols = 32, 128
	rnd := rand.New(rand.NewPCG(4, 4))
	blob, err := sparsefmt.Encode(shape{rows, cols, 64, evenly(0.5)}.matrix(rnd, sparsefmt.CodingQ4Sym, func() float32 { return 1 }))
	if err != nil {
		t.Fatal(err)
	}
	b, name := guarded(t, blob, atEnd), []byte("offered.weight\x00")
	data := make([]byte, rows*cols/32*34)
	takes := func(name string, kind gguf.Type) bool {
		w := l.weight(ours, name, int32(kind), rows, cols, unsafe.Pointer(&data[0]))
		if w != 0 {
			l.free(w)
		}
		return w != 0
	}
	if code := l.offer(unsafe.Pointer(&offerStruct{64, &name[0], rows, cols, 1, 64, &b[0], uint64(len(b)), 0})); code != 0 {
		t.Fatalf("offer: result %d", code)
	}
	if !takes("offered.weight", gguf.Q4_0) || !takes("other.weight", gguf.Q4_0) || takes("other.weight", gguf.Q8_0) || takes("other.weight", gguf.F16) {
		t.Error("beside an offer, the wrong tensors are taken")
	}
	l.withdraw(unsafe.Pointer(&b[0]))
	if !takes("other.weight", gguf.Q8_0) || !takes("other.weight", gguf.F16) {
		t.Error("after an offer, tensors are not taken")
	}
}

// prunedQ4 is a random matrix in Q4_0: one scale per group, the given share pruned
// in every row, or in every window of so many weights.
func prunedQ4(rnd *rand.Rand, rows, cols, group int, sparsity float64, window int) []byte {
	data := make([]byte, 0, rows*cols/32*18)
	codes := make([]byte, cols)
	if window == 0 {
		window = cols
	}
	for range rows {
		for from := 0; from < cols; from += window {
			prune := int(sparsity*float64(window) + 0.5)
			for i := range window {
				codes[from+i] = byte((9 + rnd.IntN(15)) & 15)
				if rnd.IntN(window-i) < prune {
					codes[from+i] = 8
					prune--
				}
			}
		}
		var d uint16
		for b := range cols / 32 {
			if b%(group/32) == 0 {
				d = gguf.F32ToF16(float32(0.005 + 0.01*rnd.Float64()))
			}
			data = append(data, byte(d), byte(d>>8))
			for i := range 16 {
				data = append(data, codes[32*b+i]|codes[32*b+16+i]<<4)
			}
		}
	}
	return data
}

func normal(rnd *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
	}
	return x
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

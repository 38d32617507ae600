package native

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"
	"unsafe"

	"besa/gguf"
	"besa/sparsefmt"
)

// The kernel that runs: the scalar twin, or the one for the number of tokens.
const (
	scalar = iota
	vector
)

// few is FEW_TOKENS, for 4- and 8-bit weights.
const few = 4

// fewOf returns up to how many tokens a kernel sums lanes of columns.
func (l *library) fewOf(coding sparsefmt.Coding) int { return int(l.few(uint32(coding))) }

// codings that have kernels.
var codings = []sparsefmt.Coding{sparsefmt.CodingQ4Sym, sparsefmt.CodingQ8Sym, sparsefmt.CodingF16, sparsefmt.CodingBF16}

// A shape says how a test matrix is pruned. 16-bit codings ignore the group.
type shape struct {
	rows, cols, group int
	// keep is the chance that weight j of row i survives.
	keep func(i, j int) float64
}

func evenly(p float64) func(i, j int) float64 { return func(int, int) float64 { return p } }

// nOf64 keeps exactly n of every 64, in other places in every row.
func nOf64(n int) func(i, j int) float64 {
	return func(i, j int) float64 {
		if (j*37+i*11)%64 < n {
			return 1
		}
		return 0
	}
}

// shapes cover the edges: one row to more than two tiles, columns around every
// multiple that a kernel cares about, every group size, empty and full rows, the
// same number of survivors everywhere.
func shapes() map[string]shape {
	all := map[string]shape{
		"empty":               {33, 320, 128, evenly(0)},
		"full":                {33, 320, 128, evenly(1)},
		"empty and full rows": {48, 1088, 64, func(i, _ int) float64 { return float64(i & 1) }},
		"one empty half":      {16, 512, 128, func(_, j int) float64 { return float64(j / 256) }},
		"rows of all shares":  {40, 2080, 32, func(i, _ int) float64 { return float64(i) / 39 }},
	}
	for _, n := range []int{1, 20, 31, 32, 33} {
		all[fmt.Sprintf("%d of 64", n)] = shape{35, 1152, 32 << (n % 3), nOf64(n)}
	}
	all["32 of 64, and 16 of the last 32"] = shape{20, 288, 64, func(i, j int) float64 { return float64((i + j) & 1) }}
	for _, rows := range []int{1, 2, 15, 16, 17, 31, 32, 33, 64, 65} {
		all[fmt.Sprintf("%d rows", rows)] = shape{rows, 288, 64, evenly(0.5)}
	}
	for _, cols := range []int{32, 64, 96, 128, 160, 224, 256, 480, 512, 544, 576, 992, 1024, 1056, 2016, 2048, 2080, 4096, 4128} {
		for _, group := range []int{32, 64, 128} {
			all[fmt.Sprintf("%d columns by %d", cols, group)] = shape{18, cols, group, evenly(0.5)}
		}
	}
	return all
}

// matrix draws codes below 16 in 4-bit and −7…8 in wider codings.
func (s shape) matrix(rnd *rand.Rand, coding sparsefmt.Coding, scale func() float32) *sparsefmt.Matrix {
	m := &sparsefmt.Matrix{Rows: s.rows, Cols: s.cols, Coding: coding}
	m.Mask = make([]uint64, m.Rows*m.Words())
	wide := coding == sparsefmt.CodingF16 || coding == sparsefmt.CodingBF16
	if wide {
		m.Values = make([]uint16, m.Rows*m.Cols)
	} else {
		m.Group = s.group
		m.Codes = make([]uint8, m.Rows*m.Cols)
		m.Scales = make([]uint16, m.Rows*m.Groups())
		for i := range m.Scales {
			m.Scales[i] = gguf.F32ToF16(scale())
		}
	}
	for i := range m.Rows {
		for j := range m.Cols {
			if rnd.Float64() >= s.keep(i, j) {
				continue
			}
			m.Mask[i*m.Words()+j/64] |= 1 << (j % 64)
			code := rnd.IntN(16)
			switch {
			case coding == sparsefmt.CodingQ4Sym:
				m.Codes[i*m.Cols+j] = uint8(code)
			case coding == sparsefmt.CodingQ8Sym:
				m.Codes[i*m.Cols+j] = uint8(int8(code - 7))
			case coding == sparsefmt.CodingF16:
				m.Values[i*m.Cols+j] = gguf.F32ToF16(float32(code-7) * scale())
			default:
				m.Values[i*m.Cols+j] = uint16(math.Float32bits(float32(code-7)*float32(int(scale()*8))/8) >> 16)
			}
		}
	}
	return m
}

// product runs a kernel twice: every buffer, activations and scratch among them,
// ends at an unreadable page the first time and begins at one the second.
func (l *library) product(t *testing.T, blob []byte, kernel, tokens int, x []float32, rows int) []float32 {
	t.Helper()
	var y [2][]float32
	for i, tight := range edges {
		in := guarded(t, unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x)), tight)
		out := guarded(t, make([]byte, 4*tokens*rows), tight)
		b := guarded(t, blob, tight)
		if code := l.multiply(unsafe.Pointer(&b[0]), uint64(len(b)), int32(kernel), uint32(tokens), unsafe.Pointer(&in[0]), unsafe.Pointer(&out[0]), int32(tight)); code != 0 {
			t.Fatalf("kernel %d, %d tokens: code %d", kernel, tokens, code)
		}
		y[i] = floats(out)
	}
	for i, v := range y[0] {
		if w := y[1][i]; math.Float32bits(v) != math.Float32bits(w) {
			t.Fatalf("kernel %d, %d tokens: the same product is %v and %v", kernel, tokens, v, w)
		}
	}
	return y[0]
}

// exactActivations are integers up to 127, with 127 in each block: they
// quantise to themselves with scale 1.
func exactActivations(rnd *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rnd.IntN(255) - 127)
		if i%32 == 0 {
			x[i] = 127
		}
	}
	return x
}

// With activations and scales that make every sum an integer small enough for
// a float, all kernels must give the one right result whatever their order of
// summation: that of the weights as package sparsefmt decodes them.
func TestKernelsAreExact(t *testing.T) {
	l := loadKernels(t)
	scales := []float32{1, 2, 0.5, -1, 0, float32(math.Copysign(0, -1))}
	for name, s := range shapes() {
		for _, coding := range codings {
			t.Run(name+"/"+coding.String(), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(uint64(s.rows), uint64(s.cols)))
				m := s.matrix(rnd, coding, func() float32 { return scales[rnd.IntN(len(scales))] })
				blob, err := sparsefmt.Encode(m)
				if err != nil {
					t.Fatal(err)
				}
				few := l.fewOf(coding)
				for _, tokens := range []int{1, 2, 3, 4, 5, 6, 7, 8, 12, 13, few + 1, few + 2, few + 3, few + 4, few + 5, few + 6, few + 9} {
					x := exactActivations(rnd, tokens*s.cols)
					want := reference(t, m, x, tokens)
					for _, k := range []int{scalar, vector} {
						got := l.product(t, blob, k, tokens, x, s.rows)
						for i := range want {
							if float64(got[i]) != want[i] {
								t.Fatalf("kernel %d, %d tokens: token %d, row %d: got %v, want %v", k, tokens, i/s.rows, i%s.rows, got[i], want[i])
							}
						}
					}
				}
			})
		}
	}
}

// reference multiplies the decoded weights.
func reference(t *testing.T, m *sparsefmt.Matrix, x []float32, tokens int) []float64 {
	t.Helper()
	y, row := make([]float64, tokens*m.Rows), make([]float32, m.Cols)
	for i := range m.Rows {
		if err := m.Floats(i, row); err != nil {
			t.Fatal(err)
		}
		for k := range tokens {
			for j, w := range row {
				y[k*m.Rows+i] += float64(w) * float64(x[k*m.Cols+j])
			}
		}
	}
	return y
}

// With real numbers the kernels for many tokens give the scalar twin's bits, those
// for a few agree with it up to the order of summation, and both with the product
// of unquantised activations up to their quantisation.
func TestKernelsOnRealNumbers(t *testing.T) {
	l := loadKernels(t)
	for i, s := range []shape{{50, 4096, 128, evenly(0.5)}, {37, 576, 64, evenly(0.4)}, {20, 1536, 32, evenly(0.9)}, {64, 2048, 32, evenly(0.5)},
		{33, 608, 64, evenly(0.5)}, {70, 2048, 128, evenly(0.3)}, {48, 1024, 32, evenly(0.5)}, {21, 704, 128, evenly(0.7)}} {
		rnd := rand.New(rand.NewPCG(1, uint64(s.cols)))
		coding := codings[i%len(codings)]
		few := l.fewOf(coding)
		m := s.matrix(rnd, coding, func() float32 { return float32(rnd.NormFloat64()) * 0.01 })
		blob, err := sparsefmt.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, tokens := range []int{1, few, few + 1, 9, 70} {
			x := make([]float32, tokens*s.cols)
			for i := range x {
				x[i] = float32(rnd.NormFloat64() * math.Exp(rnd.NormFloat64()))
			}
			want, exact := l.product(t, blob, scalar, tokens, x, s.rows), reference(t, m, x, tokens)
			got := l.product(t, blob, vector, tokens, x, s.rows)
			if e := distance(got, want); e > 1e-5 || tokens > few && !slices.Equal(got, want) {
				t.Errorf("%d×%d, %d tokens: kernel is %.2g from its twin", s.rows, s.cols, tokens, e)
			}
			exact32 := make([]float32, len(exact))
			for i, v := range exact {
				exact32[i] = float32(v)
			}
			if e := distance(got, exact32); e > 0.02 {
				t.Errorf("%d×%d, %d tokens: kernel is %.2g from the exact product", s.rows, s.cols, tokens, e)
			}
		}
	}
}

// Where the processor multiplies BF16, the kernels for processors that do not are
// tested too, in a process of its own: what a processor can is asked once.
func TestKernelsWithoutBF16(t *testing.T) {
	l := loadKernels(t)
	if os.Getenv("BESA_NATIVE_CPU") == "bf16" { // that process
		if bf16, f16 := l.fewOf(sparsefmt.CodingBF16), l.fewOf(sparsefmt.CodingF16); bf16 != f16 {
			t.Errorf("BF16 is multiplied as it is, or %d tokens are few and not %d", bf16, f16)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKernels(AreExact|OnRealNumbers|WithoutBF16)$/./^bf16$")
	cmd.Env = append(os.Environ(), "BESA_NATIVE_CPU=bf16")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// distance is ‖a − b‖/‖b‖.
func distance(a, b []float32) float64 {
	var diff, norm float64
	for i := range a {
		diff += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		norm += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(diff / norm)
}

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// form is one of the three products in one of the precisions.
type form struct {
	name           string
	form           Form
	precision      Precision
	transA, transB bool
}

var forms = []form{
	{"NT", NT, FP32, false, true}, {"NN", NN, FP32, false, false}, {"TN", TN, FP32, true, false},
	{"NT/bf16", NT, BF16, false, true}, {"NN/bf16", NN, BF16, false, false}, {"TN/bf16", TN, BF16, true, false},
}

func call[T Float](f form, p *Pool, c, a, b Mat[T], accumulate bool) {
	MatMul(p, f.form, f.precision, c, a, b, accumulate)
}

// swapIf returns rows and columns, exchanged for a transposed operand.
func swapIf(trans bool, rows, cols int) (int, int) {
	if trans {
		return cols, rows
	}
	return rows, cols
}

// operands are random guarded matrices for one product; gap values lie between rows.
func operands[T Float](f form, s shape, gap int) (c, a, b guarded[T]) {
	r := rand.New(rand.NewPCG(uint64(s.m*1000003+s.n), uint64(s.k)))
	ar, ac := swapIf(f.transA, s.m, s.k)
	br, bc := swapIf(f.transB, s.k, s.n)
	return newGuarded[T](s.m, s.n, gap).randomize(r), newGuarded[T](ar, ac, gap).randomize(r), newGuarded[T](br, bc, gap).randomize(r)
}

// testProduct compares one product with sums in float64. A sum of k products
// and one addend in any order, with or without fused operations, errs by at
// most (k+1)·u/(1-(k+1)·u) times the sum of the terms' magnitudes.
func testProduct[T Float](t *testing.T, f form, p *Pool, s shape, gap int, accumulate bool) {
	t.Helper()
	c, a, b := operands[T](f, s, gap)
	before := append([]T(nil), c.all...)
	if !accumulate {
		// What C held must not matter.
		for i := range s.m {
			for j := range s.n {
				c.Row(i)[j] = T(math.NaN())
			}
		}
	}
	call(f, p, c.Mat, a.Mat, b.Mat, accumulate)
	name := fmt.Sprintf("%s %T %+v gap=%d accumulate=%v", f.name, T(0), s, gap, accumulate)
	a.check(t, name+": A")
	b.check(t, name+": B")
	c.check(t, name+": C")
	u := float64(s.k+1) * epsilon[T]()
	rows, cols := widened(a.Mat, f.transA), widened(b.Mat, !f.transB)
	if f.precision == BF16 && epsilon[T]() == 0x1p-24 {
		round(rows)
		round(cols)
	}
	for i := range s.m {
		for j := range s.n {
			var sum, size float64
			if accumulate {
				sum = float64(before[guard+i*c.Stride+j])
				size = math.Abs(sum)
			}
			y := cols[j]
			for l, x := range rows[i] {
				v := x * y[l]
				sum += v
				size += math.Abs(v)
			}
			got := float64(c.Data[i*c.Stride+j])
			if err := math.Abs(got - sum); !(err <= u/(1-u)*size) {
				t.Fatalf("%s: C[%d,%d] = %g, want %g, error %g", name, i, j, got, sum, err)
			}
		}
	}
}

// widened returns the rows of m, or its columns, in float64.
func widened[T Float](m Mat[T], columns bool) [][]float64 {
	n, length := swapIf(columns, m.Rows, m.Cols)
	v := make([][]float64, n)
	for i := range v {
		v[i] = make([]float64, length)
		for j := range v[i] {
			r, c := swapIf(columns, i, j)
			v[i][j] = float64(m.Data[r*m.Stride+c])
		}
	}
	return v
}

// round rounds to bf16, by other means than the kernels: a float32 whose last
// 16 bits of mantissa are gone.
func round(rows [][]float64) {
	for _, row := range rows {
		for i, v := range row {
			fraction, exponent := math.Frexp(v)
			row[i] = math.Ldexp(math.RoundToEven(fraction*256), exponent-8)
		}
	}
}

// around returns the values next to each cutoff, without what is no size.
func around(cutoffs ...int) []int {
	var v []int
	for _, c := range cutoffs {
		for d := -1; d <= 1; d++ {
			if c+d > 0 {
				v = append(v, c+d)
			}
		}
	}
	return v
}

// cutoffShapes returns shapes around every size at which a product's loops
// change: one dimension at its cutoffs, the others small and odd.
func cutoffShapes[T Float](k microKernel[T]) []shape {
	g := product[T]{kernel: &k, m: 1 << 20, n: 1 << 20, k: k.kc}
	g.plan(1)
	var s []shape
	for _, m := range around(1, k.mr, 2*k.mr, g.mc) {
		s = append(s, shape{m, k.nr + 3, 9}, shape{m, 5, k.per*k.kc + 5})
	}
	for _, n := range around(1, k.nr, 2*k.nr, g.cols) {
		s = append(s, shape{k.mr + 1, n, 11}, shape{3, n, k.per*k.kc + 3})
	}
	for _, l := range around(1, 8, 16, 32, k.per*k.kc, 2*k.per*k.kc) {
		s = append(s, shape{k.mr + 1, k.nr + 1, l}, shape{2*k.mr - 1, 5*k.nr - 1, l})
	}
	return s
}

func TestProducts(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	eachImplementation(t, func(t *testing.T) {
		for _, f := range forms {
			t.Run(f.name, func(t *testing.T) {
				for i, s := range cutoffShapes(*current.Load().product(f.precision)) {
					testProduct[float32](t, f, pool, s, i%3*3, i%2 == 0)
				}
				for i, s := range cutoffShapes(generic64) {
					testProduct[float64](t, f, pool, s, i%3*3, i%2 == 0)
				}
				// Shared among threads.
				testProduct[float32](t, f, pool, shape{150, 170, 131}, 7, true)
				testProduct[float32](t, f, pool, shape{1, 3001, 700}, 0, false)
				testProduct[float32](t, f, pool, shape{3001, 1, 700}, 1, false)
				testProduct[float64](t, f, pool, shape{128, 128, 129}, 0, false)
			})
		}
	})
}

func TestProductsEmpty(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, f := range forms {
			for _, s := range []shape{{0, 3, 3}, {3, 0, 3}, {0, 0, 0}, {2, 3, 0}} {
				testProduct[float32](t, f, nil, s, 2, false)
				testProduct[float64](t, f, nil, s, 2, true)
			}
		}
	})
}

// sameBits fails unless two matrices are equal bit for bit.
func sameBits(t *testing.T, name string, got, want Mat[float32]) {
	t.Helper()
	for i := range want.Rows {
		for j, w := range want.Row(i) {
			if g := got.Row(i)[j]; math.Float32bits(g) != math.Float32bits(w) {
				t.Fatalf("%s: C[%d,%d] is %x, want %x", name, i, j, math.Float32bits(g), math.Float32bits(w))
			}
		}
	}
}

// TestThreads: the number of threads must not show in the results.
func TestThreads(t *testing.T) {
	shapes := []shape{{97, 101, 300}, {40, 170, 400}, {513, 33, 200}, {5, 600, 800}, {24, 96, 1000}} // just enough to be shared
	eachImplementation(t, func(t *testing.T) {
		for _, f := range forms {
			for _, s := range shapes {
				want, a, b := operands[float32](f, s, 0)
				start := append([]float32(nil), want.Data...)
				call(f, nil, want.Mat, a.Mat, b.Mat, true)
				for threads := 1; threads <= 4; threads++ {
					p := NewPool(threads)
					c := MatOf(s.m, s.n, append([]float32(nil), start...))
					call(f, p, c, a.Mat, b.Mat, true)
					p.Close()
					sameBits(t, fmt.Sprintf("%s %+v with %d threads", f.name, s, threads), c, want.Mat)
				}
			}
		}
	})
}

// TestPlans: nor must the sizes of blocks, or whether A is copied. Small blocks
// also lead a small product through every loop.
func TestPlans(t *testing.T) {
	pool := NewPool(3)
	defer pool.Close()
	eachImplementation(t, func(t *testing.T) {
		for _, f := range forms {
			kernel := current.Load().product(f.precision)
			s := shape{2*kernel.mr + 5, 3*kernel.nr + 7, kernel.per*3*kernel.kc + 11}
			want, a, b := operands[float32](f, s, 5)
			start := append([]float32(nil), want.all...)
			call(f, nil, want.Mat, a.Mat, b.Mat, true)
			for bits := range 64 {
				c := want
				c.all = append([]float32(nil), start...)
				c.Data = c.all[guard : guard+len(want.Data)]
				g := product[float32]{kernel: kernel, buffers: &buffers32, m: s.m, n: s.n, length: s.k, k: ceilDiv(s.k, kernel.per), c: c.Data, ldc: c.Stride,
					a: newSide(a.Data, a.Stride, f.transA), b: newSide(b.Data, b.Stride, !f.transB), accumulate: true}
				g.plan(1)
				g.pack = bits&1 != 0 || kernel.per > 1
				for i, block := range []struct {
					size *int
					unit int
				}{{&g.slabK, g.kc}, {&g.slabM, kernel.mr}, {&g.rows, kernel.mr}, {&g.cols, kernel.nr}, {&g.mc, kernel.mr}} {
					if bits>>(i+1)&1 != 0 {
						*block.size = block.unit
					}
				}
				g.compute(pool)
				name := fmt.Sprintf("%s %+v plan %06b", f.name, s, bits)
				c.check(t, name)
				sameBits(t, name, c.Mat, want.Mat)
			}
		}
	})
}

func TestMisuse(t *testing.T) {
	m := func(r, c int) Mat[float32] { return NewMat[float32](r, c) }
	short := Mat[float32]{Rows: 3, Cols: 3, Stride: 3, Data: make([]float32, 8)}
	huge := Mat[float32]{Rows: 1 << 31, Cols: 1, Stride: 1 << 33, Data: make([]float32, 8)}
	for name, f := range map[string]func(){
		"sum":      func() { MulNT(nil, m(2, 2), m(2, 3), m(2, 4), false) },
		"rows":     func() { MulNN(nil, m(2, 2), m(3, 3), m(3, 2), false) },
		"columns":  func() { MulTN(nil, m(2, 2), m(3, 2), m(3, 3), false) },
		"data":     func() { MulNN(nil, m(3, 3), short, m(3, 3), false) },
		"overflow": func() { MulNN(nil, huge, Mat[float32]{Rows: 1 << 31, Cols: 1, Stride: 1, Data: nil}, m(1, 1), false) },
		"stride": func() {
			MulNN(nil, m(2, 2), Mat[float32]{Rows: 2, Cols: 2, Stride: 1, Data: make([]float32, 9)}, m(2, 2), false)
		},
		"vectors":    func() { Dot(make([]float32, 3), make([]float32, 2)) },
		"view":       func() { m(3, 3).View(0, 4, 0, 3) },
		"row":        func() { m(3, 3).Row(3) },
		"negative":   func() { m(-1, 3) },
		"MatOf data": func() { MatOf(3, 3, make([]float32, 8)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f()
		}()
	}
}

func TestView(t *testing.T) {
	m := NewMat[float64](4, 5)
	for i := range m.Data {
		m.Data[i] = float64(i)
	}
	v := m.View(1, 3, 2, 5)
	if v.Rows != 2 || v.Cols != 3 || v.Stride != 5 || v.Row(1)[0] != 12 || len(v.Data) != 8 {
		t.Errorf("view: %+v", v)
	}
	if e := m.View(4, 4, 0, 5); e.Rows != 0 || e.Data != nil {
		t.Errorf("empty view: %+v", e)
	}
}

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// form is one of the three products and the shapes its operands have.
type form struct {
	name           string
	transA, transB bool
}

var forms = []form{{"NT", false, true}, {"NN", false, false}, {"TN", true, false}}

func call[T Float](f form, p *Pool, c, a, b Mat[T], accumulate bool) {
	switch f.name {
	case "NT":
		MulNT(p, c, a, b, accumulate)
	case "NN":
		MulNN(p, c, a, b, accumulate)
	default:
		MulTN(p, c, a, b, accumulate)
	}
}

// testProduct compares one product with sums in float64. A sum of k products
// and one addend in any order, with or without fused operations, errs by at
// most (k+1)·u/(1-(k+1)·u) times the sum of the terms' magnitudes.
func testProduct[T Float](t *testing.T, f form, p *Pool, m, n, k, gap int, accumulate bool) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(m*1000003+n), uint64(k)))
	dims := func(rows, cols int, trans bool) (int, int) {
		if trans {
			return cols, rows
		}
		return rows, cols
	}
	ar, ac := dims(m, k, f.transA)
	br, bc := dims(k, n, f.transB)
	a := newGuarded[T](ar, ac, gap).randomize(r)
	b := newGuarded[T](br, bc, gap).randomize(r)
	c := newGuarded[T](m, n, gap)
	if accumulate {
		c.randomize(r)
	}
	before := append([]T(nil), c.all...)
	call(f, p, c.Mat, a.Mat, b.Mat, accumulate)
	name := fmt.Sprintf("%s %T m=%d n=%d k=%d gap=%d accumulate=%v", f.name, c.Data, m, n, k, gap, accumulate)
	a.check(t, name+": A")
	b.check(t, name+": B")
	c.check(t, name+": C")
	u := float64(k+1) * epsilon[T]()
	at := func(m Mat[T], i, j int, trans bool) float64 {
		i, j = dims(i, j, trans)
		return float64(m.Data[i*m.Stride+j])
	}
	for i := range m {
		for j := range n {
			var sum, size float64
			if accumulate {
				sum = float64(before[guard+i*c.Stride+j])
				size = math.Abs(sum)
			}
			for l := range k {
				v := at(a.Mat, i, l, f.transA) * at(b.Mat, l, j, f.transB)
				sum += v
				size += math.Abs(v)
			}
			got := float64(c.Data[i*c.Stride+j])
			if err := math.Abs(got - sum); !(err <= u/(1-u)*size+0x1p-1000) {
				t.Fatalf("%s: C[%d,%d] = %g, want %g, error %g", name, i, j, got, sum, err)
			}
		}
	}
}

func TestProductsSmoke(t *testing.T) {
	pool := NewPool(2)
	defer pool.Close()
	eachImplementation(t, func(t *testing.T) {
		for _, f := range forms {
			for _, s := range [][3]int{{1, 1, 1}, {3, 5, 7}, {64, 64, 64}, {100, 130, 600}, {300, 520, 70}} {
				for _, acc := range []bool{false, true} {
					testProduct[float32](t, f, pool, s[0], s[1], s[2], 3, acc)
					testProduct[float64](t, f, pool, s[0], s[1], s[2], 0, acc)
				}
			}
		}
	})
}

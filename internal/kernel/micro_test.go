package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestTile runs every size of tile, on A by rows and by columns, and compares
// with tileAny. Both sum in the same order; a fused multiply-add saves a
// rounding per term, so the results differ by at most the bound of testProduct.
func TestTile(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		kernel := &current.Load().gemm
		r := rand.New(rand.NewPCG(5, 6))
		for rows := 1; rows <= kernel.mr; rows++ {
			for cols := 1; cols <= kernel.nr; cols++ {
				for _, k := range []int{1, 2, 3, rows - 1, 37} {
					if k > 0 {
						testTile(t, kernel, r, rows, cols, k)
					}
				}
			}
		}
	})
}

func testTile(t *testing.T, kernel *microKernel[float32], r *rand.Rand, rows, cols, k int) {
	t.Helper()
	accumulate := (rows+cols+k)%2 == 0
	byRows := newGuarded[float32](rows, k, 3).randomize(r)
	byCols := newGuarded[float32](k, rows, 2)
	for i := range rows {
		for p := range k {
			byCols.Row(p)[i] = byRows.Row(i)[p]
		}
	}
	// What a panel holds beyond cols must not matter. No NaN here: it would look
	// like the guards when stored where it must not be.
	b := newGuarded[float32](k, kernel.nr, 0).randomize(r)
	for p := range k {
		for j := cols; j < kernel.nr; j++ {
			b.Row(p)[j] = 1e30
		}
	}
	start := newGuarded[float32](rows, cols, 5).randomize(r)
	want := append([]float32(nil), start.Data...)
	tileAny(rows, cols, kernel.nr, k, byRows.Data, byRows.Stride, 1, b.Data, want, start.Stride, accumulate)
	for _, a := range []struct {
		name       string
		data       []float32
		rowA, colA int
	}{{"rows", byRows.Data, byRows.Stride, 1}, {"columns", byCols.Data, 1, byCols.Stride}} {
		name := fmt.Sprintf("%d×%d tile, k=%d, A by %s, accumulate=%v", rows, cols, k, a.name, accumulate)
		c := start
		c.all = append([]float32(nil), start.all...)
		c.Data = c.all[guard : guard+len(start.Data)]
		kernel.tile(rows, cols, k, a.data, a.rowA, a.colA, b.Data, c.Data, c.Stride, accumulate, nil, 0)
		c.check(t, name)
		for i := range rows {
			for j := range cols {
				size := math.Abs(float64(start.Row(i)[j]))
				for p := range k {
					size += math.Abs(float64(byRows.Row(i)[p] * b.Row(p)[j]))
				}
				got, w := c.Row(i)[j], want[i*c.Stride+j]
				if err := math.Abs(float64(got) - float64(w)); !(err <= float64(k+1)*0x1p-23*size) {
					t.Fatalf("%s: C[%d,%d] = %g, want %g", name, i, j, got, w)
				}
			}
		}
	}
}

// TestPack compares the packing routines with their definition, bit for bit.
func TestPack(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		kernel := &current.Load().gemm
		r := rand.New(rand.NewPCG(7, 8))
		for _, k := range []int{1, 2, 7, 8, 9, 15, 16, 17, 33} {
			for w := 1; w <= 3*kernel.nr+1; w++ {
				for _, panel := range []int{kernel.mr, kernel.nr, roundUp(w, 16) + 16} {
					testPack(t, kernel, r, panel, k, w)
				}
				if w <= kernel.nr {
					testPackT(t, kernel, r, k, w)
				}
			}
		}
	})
}

func testPack(t *testing.T, kernel *microKernel[float32], r *rand.Rand, panel, k, w int) {
	t.Helper()
	src := newGuarded[float32](k, w, 3).randomize(r)
	apart := panel * (k + 1) // one row between panels, which stays as it is
	panels := ceilDiv(w, panel)
	dst := newGuarded[float32](1, panels*apart-panel, 0)
	kernel.pack(dst.Data, panel, apart, src.Data, src.Stride, k, w)
	name := fmt.Sprintf("pack of %d×%d to panels of %d", k, w, panel)
	dst.check(t, name)
	for p := range k {
		for j := range w {
			if got, want := dst.Data[j/panel*apart+p*panel+j%panel], src.Row(p)[j]; got != want {
				t.Fatalf("%s: (%d, %d) is %g, want %g", name, p, j, got, want)
			}
		}
	}
	for q := range panels - 1 {
		for _, v := range dst.Data[q*apart+k*panel : (q+1)*apart] {
			if v == v {
				t.Fatalf("%s: wrote between panels", name)
			}
		}
	}
}

func testPackT(t *testing.T, kernel *microKernel[float32], r *rand.Rand, k, w int) {
	t.Helper()
	src := newGuarded[float32](w, k, 2).randomize(r)
	dst := newGuarded[float32](1, k*kernel.nr, 0)
	kernel.packT(dst.Data, src.Data, src.Stride, k, w)
	name := fmt.Sprintf("transposing pack of %d×%d", w, k)
	dst.check(t, name)
	for p := range k {
		for j := range w {
			if got, want := dst.Data[p*kernel.nr+j], src.Row(j)[p]; got != want {
				t.Fatalf("%s: (%d, %d) is %g, want %g", name, p, j, got, want)
			}
		}
	}
}

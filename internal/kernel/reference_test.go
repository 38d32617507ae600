package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// eachImplementation runs f with every implementation that this machine has.
func eachImplementation(t *testing.T, f func(t *testing.T)) {
	before := Implementation()
	defer func() {
		if err := Use(before); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range Implementations() {
		if err := Use(name); err != nil {
			t.Fatal(err)
		}
		t.Run(name, f)
	}
}

// guarded is a matrix inside a larger slice, all of which but the matrix is NaN:
// reading outside spoils a result, writing outside is found by check.
type guarded[T Float] struct {
	Mat[T]
	all    []T
	offset int
}

const guard = 67 // elements before and after; odd, so that rows are unaligned

func newGuarded[T Float](rows, cols, gap int) guarded[T] {
	stride := cols + gap
	all := make([]T, guard+rows*stride+guard)
	for i := range all {
		all[i] = T(math.NaN())
	}
	// The slice ends with the last element, so nothing but an address can reach past it.
	end := guard
	if rows > 0 && cols > 0 {
		end += (rows-1)*stride + cols
	}
	return guarded[T]{Mat[T]{Rows: rows, Cols: cols, Stride: stride, Data: all[guard:end:end]}, all, guard}
}

func (g guarded[T]) randomize(r *rand.Rand) guarded[T] {
	for i := range g.Rows {
		for j := range g.Row(i) {
			g.Row(i)[j] = T(r.NormFloat64())
		}
	}
	return g
}

// check reports writes outside the matrix.
func (g guarded[T]) check(t *testing.T, name string) {
	t.Helper()
	for i, v := range g.all {
		k := i - g.offset
		if k >= 0 && g.Stride > 0 && k/g.Stride < g.Rows && k%g.Stride < g.Cols {
			continue
		}
		if v == v {
			t.Fatalf("%s: wrote outside, at %d relative to the first element", name, k)
		}
	}
}

// epsilon is the unit round-off of T.
func epsilon[T Float]() float64 {
	var t T
	if _, ok := any(t).(float64); ok {
		return 0x1p-53
	}
	return 0x1p-24
}

package kernel

import (
	"fmt"
	"unsafe"
)

// Float is the element type of matrices and vectors.
type Float interface{ ~float32 | ~float64 }

// Mat is a row-major view of Rows×Cols elements: element (i, j) is
// Data[i*Stride+j]. What lies between the rows (Stride > Cols) belongs to
// others and is neither read nor written.
type Mat[T Float] struct {
	Rows, Cols, Stride int
	Data               []T
}

// NewMat returns a zeroed rows×cols matrix with memory of its own.
func NewMat[T Float](rows, cols int) Mat[T] {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("kernel: matrix of %d×%d", rows, cols))
	}
	return Mat[T]{Rows: rows, Cols: cols, Stride: cols, Data: make([]T, rows*cols)}
}

// MatOf views data, which must hold at least rows×cols elements, as a matrix.
func MatOf[T Float](rows, cols int, data []T) Mat[T] {
	m := Mat[T]{Rows: rows, Cols: cols, Stride: cols, Data: data}
	m.check("data")
	return m
}

// Row returns row i; writing to it writes to the matrix.
func (m Mat[T]) Row(i int) []T {
	if uint(i) >= uint(m.Rows) {
		panic(fmt.Sprintf("kernel: row %d of %d", i, m.Rows))
	}
	if m.Cols == 0 {
		return nil
	}
	o := i * m.Stride
	return m.Data[o : o+m.Cols : o+m.Cols]
}

// View returns rows r0 to r1 and columns c0 to c1 (ends excluded) of m, sharing its memory.
func (m Mat[T]) View(r0, r1, c0, c1 int) Mat[T] {
	if r0 < 0 || r1 < r0 || r1 > m.Rows || c0 < 0 || c1 < c0 || c1 > m.Cols {
		panic(fmt.Sprintf("kernel: view [%d:%d, %d:%d] of %d×%d", r0, r1, c0, c1, m.Rows, m.Cols))
	}
	v := Mat[T]{Rows: r1 - r0, Cols: c1 - c0, Stride: m.Stride}
	if v.Rows > 0 && v.Cols > 0 {
		end := (r1-1)*m.Stride + c1
		v.Data = m.Data[r0*m.Stride+c0 : end : end]
	}
	return v
}

// check panics unless every element of m lies inside m.Data: the kernels
// below work on addresses and rely on it.
func (m Mat[T]) check(name string) {
	if m.Rows < 0 || m.Cols < 0 || (m.Rows > 1 && m.Stride < m.Cols) {
		panic(fmt.Sprintf("kernel: %s: %d×%d with stride %d", name, m.Rows, m.Cols, m.Stride))
	}
	if m.Rows == 0 || m.Cols == 0 {
		return
	}
	// Divide instead of multiplying: the product may overflow.
	if rest := len(m.Data) - m.Cols; rest < 0 || (m.Rows > 1 && rest/(m.Rows-1) < m.Stride) {
		panic(fmt.Sprintf("kernel: %s: %d×%d with stride %d needs more than %d elements", name, m.Rows, m.Cols, m.Stride, len(m.Data)))
	}
}

// floats32 returns s as a []float32 when that is what T is underneath.
func floats32[T Float](s []T) ([]float32, bool) {
	var t T
	if unsafe.Sizeof(t) != 4 {
		return nil, false
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(s))), len(s)), true
}

// floats64 is floats32 for the other width.
func floats64[T Float](s []T) []float64 {
	return unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(s))), len(s))
}

// alignedSlice returns n elements of which the first begins a cache line.
func alignedSlice[T Float](n int) []T {
	const line = 64
	var t T
	size := int(unsafe.Sizeof(t))
	s := make([]T, n+line/size)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(s)))) & (line - 1) / size
	return s[skip : skip+n]
}

// copyGrain is the number of rows that one chunk of [Copy] moves.
const copyGrain = 64

// Copy copies src to dst, row by row; the shapes must be equal.
func Copy[T Float](p *Pool, dst, src Mat[T]) {
	if dst.Rows != src.Rows || dst.Cols != src.Cols {
		panic(fmt.Sprintf("kernel: Copy of %d×%d to %d×%d", src.Rows, src.Cols, dst.Rows, dst.Cols))
	}
	p.For(src.Rows, copyGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(dst.Row(i), src.Row(i))
		}
	})
}

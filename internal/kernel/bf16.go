package kernel

import (
	"fmt"
	"math"
)

// Precision says how a product rounds its float32 operands. Sums are float32
// either way, and so is all that is no product.
type Precision int

const (
	// FP32 multiplies the operands as they are.
	FP32 Precision = iota
	// BF16 first rounds them to bfloat16, eight bits of mantissa, to nearest even,
	// subnormal values to zero. Products of two such are exact in float32; those
	// and sums that are subnormal may become zero. float64 operands are not rounded.
	BF16
)

// String returns the precision's name: fp32 or bf16.
func (p Precision) String() string {
	switch p {
	case FP32:
		return "fp32"
	case BF16:
		return "bf16"
	}
	return fmt.Sprintf("precision(%d)", int(p))
}

// NativeBF16 tells whether the implementation in use has instructions for
// BF16. Without them the portable version runs, far slower than FP32.
func NativeBF16() bool { return current.Load().peakBF16 != nil }

// roundBF16 returns the upper half of x's bits, rounded to nearest even. As
// the CPU's instructions do, it takes subnormal values for zero and makes NaNs quiet.
func roundBF16(x float32) uint32 {
	bits := math.Float32bits(x)
	switch {
	case x != x:
		return bits>>16 | 0x40
	case bits&0x7f800000 == 0:
		return bits >> 16 & 0x8000
	}
	return (bits + 0x7fff + bits>>16&1) >> 16
}

// A word of a BF16 product's packed operands is two values, neighbours along
// the sum, the first in the lower half. Words travel as float32, whose values
// mean nothing then.

func pairBF16(first, second float32) float32 {
	return math.Float32frombits(roundBF16(first) | roundBF16(second)<<16)
}

func unpairBF16(word float32) (first, second float32) {
	bits := math.Float32bits(word)
	return math.Float32frombits(bits << 16), math.Float32frombits(bits &^ 0xffff)
}

// genericBF16 is the portable kernel of BF16 products: the definition of what
// the others compute, up to the order of the sum of a word's two products and
// to subnormal numbers.
func genericBF16() microKernel[float32] {
	return microKernel[float32]{mr: 4, nr: genericWidth, kc: 256, per: 2,
		tile: tileBF16Generic, pack: packBF16Generic, packT: packTBF16Generic, packRows: packRowsBF16Generic}
}

func tileBF16Generic(rows, cols, k int, a []float32, rowA, colA int, b []float32, c []float32, ldc int, accumulate bool, _ []float32, _ int) {
	tileBF16Any(rows, cols, genericWidth, k, a, rowA, colA, b, c, ldc, accumulate)
}

// tileBF16Any is microKernel.tile for any panel width.
func tileBF16Any(rows, cols, nr, k int, a []float32, rowA, colA int, b []float32, c []float32, ldc int, accumulate bool) {
	for i := range rows {
		for j := range cols {
			var sum float32
			for p := range k {
				a0, a1 := unpairBF16(a[i*rowA+p*colA])
				b0, b1 := unpairBF16(b[p*nr+j])
				sum += a1 * b1
				sum += a0 * b0
			}
			if accumulate {
				sum += c[i*ldc+j]
			}
			c[i*ldc+j] = sum
		}
	}
}

func packBF16Generic(dst []float32, panel, apart int, src []float32, stride, k, w int) {
	for p := 0; p < k; p += 2 {
		for j := range w {
			var second float32
			if p+1 < k {
				second = src[(p+1)*stride+j]
			}
			dst[j/panel*apart+p/2*panel+j%panel] = pairBF16(src[p*stride+j], second)
		}
	}
}

func packTBF16Generic(dst []float32, src []float32, stride, k, w int) {
	for j := range w {
		narrowRow(dst[j:], genericWidth, src[j*stride:j*stride+k])
	}
}

func packRowsBF16Generic(dst []float32, lead int, src []float32, stride, rows, k int) {
	for i := range rows {
		narrowRow(dst[i*lead:], 1, src[i*stride:i*stride+k])
	}
}

// narrowRow writes the words of row, step apart.
func narrowRow(dst []float32, step int, row []float32) {
	o := 0
	for ; len(row) > 1; row = row[2:] {
		dst[o] = pairBF16(row[0], row[1])
		o += step
	}
	if len(row) == 1 {
		dst[o] = pairBF16(row[0], 0)
	}
}

package kernel

// microKernel is what the blocked product is made of: one routine for a tile
// of C and the routines that lay its operands out. A tile is at most
// mr×nr; along the sum, at most kc words are summed before they reach C. A word
// of a packed operand holds per values, neighbours along the sum: one, or two of
// [BF16]; values that the last word lacks are zero.
type microKernel[T Float] struct {
	mr, nr, kc, per int

	// tile computes, in terms of words, C[rows×cols] = (or +=, when accumulate) Σ_p A(i, p)·B(p, j)
	// for p = 0 … k-1, in this order, starting from zero and added to C at
	// the end. rows ≤ mr, cols ≤ nr, k ≥ 1.
	//
	//	A(i, p) = a[i*rowA+p*colA]   packed, by rows or by columns; as stored, too, when per is 1
	//	B(p, j) = b[p*nr+j]          always a packed panel; what it holds beyond cols is free
	//	C(i, j) = c[i*ldc+j]
	//
	// next is where the next tile's A begins: at each p, the line around
	// next[p*nextStep] is asked for, which need not exist.
	tile func(rows, cols, k int, a []T, rowA, colA int, b []T, c []T, ldc int, accumulate bool, next []T, nextStep int)

	// pack cuts k rows of w values, stride apart, into panels of so many
	// columns, which lie apart from each other:
	//
	//	dst[j/panel*apart + p/per*panel + j%panel] = src[p*stride+j] (and, paired, src[(p+1)*stride+j])
	//
	// It may fill the last panel up with anything.
	pack func(dst []T, panel, apart int, src []T, stride, k, w int)

	// packT packs the transpose, at most one panel of nr columns:
	// dst[p/per*nr+j] = src[j*stride+p] (and src[j*stride+p+1]), p < k, j < w ≤ nr.
	packT func(dst []T, src []T, stride, k, w int)

	// packRows copies rows of k values along the sum:
	// dst[i*lead+p/per] = src[i*stride+p] (and src[i*stride+p+1]).
	packRows func(dst []T, lead int, src []T, stride, rows, k int)
}

// genericWidth is the width of the portable kernel's panels.
const genericWidth = 4

// genericKernel returns the portable kernel, the definition of what the others compute.
func genericKernel[T Float]() microKernel[T] {
	return microKernel[T]{mr: 4, nr: genericWidth, kc: 256, per: 1,
		tile: tileGeneric[T], pack: packGeneric[T], packT: packTGeneric[T], packRows: packRowsGeneric[T]}
}

func tileGeneric[T Float](rows, cols, k int, a []T, rowA, colA int, b []T, c []T, ldc int, accumulate bool, _ []T, _ int) {
	if rows == 4 && cols == 4 {
		tile4x4(k, a, rowA, colA, b, c, ldc, accumulate)
		return
	}
	tileAny(rows, cols, genericWidth, k, a, rowA, colA, b, c, ldc, accumulate)
}

// tileAny is tile for any panel width, in its plainest form.
func tileAny[T Float](rows, cols, nr, k int, a []T, rowA, colA int, b []T, c []T, ldc int, accumulate bool) {
	for i := range rows {
		for j := range cols {
			var sum T
			for p := range k {
				sum += a[i*rowA+p*colA] * b[p*nr+j]
			}
			if accumulate {
				sum += c[i*ldc+j]
			}
			c[i*ldc+j] = sum
		}
	}
}

// tile4x4 is tileAny for a full tile: two rows at a time, whose eight sums
// and operands just fit into the registers of the usual machines.
func tile4x4[T Float](k int, a []T, rowA, colA int, b []T, c []T, ldc int, accumulate bool) {
	for i := 0; i < 4; i += 2 {
		var s00, s01, s02, s03, s10, s11, s12, s13 T
		o := i * rowA
		for p := range k {
			bp := b[p*4 : p*4+4 : p*4+4]
			a0, a1 := a[o], a[o+rowA]
			s00 += a0 * bp[0]
			s01 += a0 * bp[1]
			s02 += a0 * bp[2]
			s03 += a0 * bp[3]
			s10 += a1 * bp[0]
			s11 += a1 * bp[1]
			s12 += a1 * bp[2]
			s13 += a1 * bp[3]
			o += colA
		}
		c0, c1 := c[i*ldc:i*ldc+4], c[(i+1)*ldc:(i+1)*ldc+4]
		if accumulate {
			s00, s01, s02, s03 = s00+c0[0], s01+c0[1], s02+c0[2], s03+c0[3]
			s10, s11, s12, s13 = s10+c1[0], s11+c1[1], s12+c1[2], s13+c1[3]
		}
		c0[0], c0[1], c0[2], c0[3] = s00, s01, s02, s03
		c1[0], c1[1], c1[2], c1[3] = s10, s11, s12, s13
	}
}

func packGeneric[T Float](dst []T, panel, apart int, src []T, stride, k, w int) {
	for p := range k {
		row := src[p*stride : p*stride+w]
		for o := p * panel; len(row) > 0; o += apart {
			n := copy(dst[o:o+panel], row)
			row = row[n:]
		}
	}
}

func packTGeneric[T Float](dst []T, src []T, stride, k, w int) {
	for j := range w {
		o := j
		for _, v := range src[j*stride : j*stride+k] {
			dst[o] = v
			o += genericWidth
		}
	}
}

func packRowsGeneric[T Float](dst []T, lead int, src []T, stride, rows, k int) {
	for i := range rows {
		copy(dst[i*lead:i*lead+k], src[i*stride:i*stride+k])
	}
}

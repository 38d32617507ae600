//go:build amd64 && !purego

package kernel

// The packing routines of the assembly cover panels of one or two registers.
// Longer rows are copied by the runtime.

func packAVX2(dst []float32, panel, apart int, src []float32, stride, k, w int) {
	switch {
	case panel == 16:
		copyWideAVX2(&dst[0], panel, apart, &src[0], stride, k, w)
	case panel >= 4 && panel <= 8:
		copyNarrowAVX2(&dst[0], panel, apart, &src[0], stride, k, w)
	default:
		packGeneric(dst, panel, apart, src, stride, k, w)
	}
}

func packAVX512(dst []float32, panel, apart int, src []float32, stride, k, w int) {
	switch {
	case panel == 32:
		copyWideAVX512(&dst[0], panel, apart, &src[0], stride, k, w)
	case panel >= 8 && panel <= 16:
		copyNarrowAVX512(&dst[0], panel, apart, &src[0], stride, k, w)
	default:
		packGeneric(dst, panel, apart, src, stride, k, w)
	}
}

func packTAVX2(dst []float32, src []float32, stride, k, w int) {
	for j := 0; j < w; j += 8 {
		if n := w - j; n >= 8 {
			transposeAVX2(&dst[j], &src[j*stride], stride, k)
		} else {
			transposeEdgeAVX2(&dst[j], &src[j*stride], stride, k, n)
		}
	}
}

func packTAVX512(dst []float32, src []float32, stride, k, w int) {
	for j := 0; j < w; j += 16 {
		if n := w - j; n >= 16 {
			transposeAVX512(&dst[j], &src[j*stride], stride, k)
		} else {
			transposeEdgeAVX512(&dst[j], &src[j*stride], stride, k, n)
		}
	}
}

func packAVX512BF16(dst []float32, panel, apart int, src []float32, stride, k, w int) {
	switch {
	case panel == 32:
		copyWideAVX512BF16(&dst[0], panel, apart, &src[0], stride, k, w)
	case panel >= 8 && panel <= 16:
		copyNarrowAVX512BF16(&dst[0], panel, apart, &src[0], stride, k, w)
	default:
		packBF16Generic(dst, panel, apart, src, stride, k, w)
	}
}

func packTAVX512BF16(dst []float32, src []float32, stride, k, w int) {
	for j := 0; j < w; j += 16 {
		if n := w - j; n >= 16 {
			transposeAVX512BF16(&dst[j], &src[j*stride], stride, k)
		} else {
			transposeEdgeAVX512BF16(&dst[j], &src[j*stride], stride, k, n)
		}
	}
}

func packRowsAVX512BF16(dst []float32, lead int, src []float32, stride, rows, k int) {
	pairRowsAVX512BF16(&dst[0], lead, &src[0], stride, rows, k)
}

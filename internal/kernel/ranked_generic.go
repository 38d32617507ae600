package kernel

// genericRanked returns the portable functions of the mask operator, the
// definition of what the others compute.
func genericRanked() rankedKernels {
	return rankedKernels{
		keep: keepGeneric, scatter: scatterGeneric, prefix: prefixGeneric,
		quantize: quantizeGeneric, gridGrad: gridGradGeneric, gridError: gridErrorGeneric,
	}
}

func keepGeneric(dst, w []float32, rank []uint16, prune int) {
	for j, r := range rank {
		v := w[j]
		if int(r) < prune {
			v = 0
		}
		dst[j] = v
	}
}

func scatterGeneric(dst, w, dw []float32, rank []uint16) {
	for j, r := range rank {
		dst[r] = w[j] * dw[j]
	}
}

func prefixGeneric(x []float32) {
	var sum float32
	for k, v := range x {
		sum += v
		x[k] = sum
	}
}

// roundEven rounds to the nearest integer, ties to even. Values far beyond
// any code saturate, which clamping makes harmless.
func roundEven(v float32) float32 {
	const shift = 1.5 * (1 << 23) // the last bit of a float32 this large is 1
	v = min(max(v, -1<<20), 1<<20)
	return float32(v+shift) - shift
}

// GridCode returns w's code on a grid of step h and zero point z (see
// [GridRow]), and w in units of the step.
func GridCode(w, h, z float32) (q, u float32) {
	if h == 0 {
		return z, 0
	}
	u = w / h
	return min(max(roundEven(u)+z, 0), GridTop), u
}

// span returns the columns of group k of a row of n.
func (g GridRow) span(k, n int) (lo, hi int) { return k * g.Group, min((k+1)*g.Group, n) }

func quantizeGeneric(g GridRow, dst, w []float32, rank []uint16, prune int) {
	for k, h := range g.Step {
		z := g.Zero[k]
		lo, hi := g.span(k, len(w))
		for j := lo; j < hi; j++ {
			var v float32
			if int(rank[j]) >= prune {
				q, _ := GridCode(w[j], h, z)
				v = (q - z) * h
			}
			dst[j] = v
		}
	}
}

func gridGradGeneric(g GridRow, value, dStep, dZero, w, dw []float32, rank []uint16, prune int) {
	for k, h := range g.Step {
		z := g.Zero[k]
		lo, hi := g.span(k, len(w))
		var sum, clipped float32
		for j := lo; j < hi; j++ {
			q, u := GridCode(w[j], h, z)
			c := q - z
			value[j] = c * h
			var d float32
			if int(rank[j]) >= prune {
				d = dw[j]
			}
			if q > 0 && q < GridTop {
				sum += d * (c - u)
			} else {
				sum += d * c
				clipped += d
			}
		}
		dStep[k], dZero[k] = sum, -clipped*h
	}
}

func gridErrorGeneric(w, weight []float32, step, zero float32) float32 {
	var sum float32
	for j, v := range w {
		q, _ := GridCode(v, step, zero)
		d := (q-zero)*step - v
		sum += weight[j] * d * d
	}
	return sum
}

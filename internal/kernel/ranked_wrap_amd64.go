//go:build amd64 && !purego

package kernel

// The assembly of the mask operator does whole registers and groups of whole
// registers; the portable twins do the rest of a row.

var (
	rankedAVX2   = wholeRanked(8, keepAVX2, scatterAVX2, prefixAVX2, quantizeAVX2, gridGradAVX2, gridErrorAVX2)
	rankedAVX512 = wholeRanked(16, keepAVX512, scatterAVX512, prefixAVX512, quantizeAVX512, gridGradAVX512, gridErrorAVX512)
)

func wholeRanked(lanes int,
	keep func(dst, w []float32, rank []uint16, prune int),
	scatter func(dst, w, dw []float32, rank []uint16),
	prefix func(x []float32),
	quantize func(group int, step, zero, dst, w []float32, rank []uint16, prune int),
	gridGrad func(group int, step, zero, value, dStep, dZero, w, dw []float32, rank []uint16, prune int),
	gridError func(w, weight []float32, step, zero float32) float32,
) rankedKernels {
	return rankedKernels{
		keep: func(dst, w []float32, rank []uint16, prune int) {
			n := len(w) - len(w)%lanes
			keep(dst[:n], w[:n], rank[:n], prune)
			keepGeneric(dst[n:], w[n:], rank[n:], prune)
		},
		scatter: func(dst, w, dw []float32, rank []uint16) {
			n := len(w) - len(w)%lanes
			scatter(dst, w[:n], dw[:n], rank[:n])
			scatterGeneric(dst, w[n:], dw[n:], rank[n:])
		},
		prefix: func(x []float32) {
			n := len(x) - len(x)%lanes
			prefix(x[:n])
			prefixGeneric(x[max(n-1, 0):]) // from the last sum on
		},
		quantize: func(g GridRow, dst, w []float32, rank []uint16, prune int) {
			k, n := g.wholeGroups(len(w))
			quantize(g.Group, g.Step[:k], g.Zero[:k], dst[:n], w[:n], rank[:n], prune)
			if t := g.last(k, len(w)-n); t.Group%16 == 0 {
				quantize(t.Group, t.Step, t.Zero, dst[n:], w[n:], rank[n:], prune)
			} else {
				quantizeGeneric(t, dst[n:], w[n:], rank[n:], prune)
			}
		},
		gridGrad: func(g GridRow, value, dStep, dZero, w, dw []float32, rank []uint16, prune int) {
			k, n := g.wholeGroups(len(w))
			gridGrad(g.Group, g.Step[:k], g.Zero[:k], value[:n], dStep[:k], dZero[:k], w[:n], dw[:n], rank[:n], prune)
			if t := g.last(k, len(w)-n); t.Group%16 == 0 {
				gridGrad(t.Group, t.Step, t.Zero, value[n:], dStep[k:], dZero[k:], w[n:], dw[n:], rank[n:], prune)
			} else {
				gridGradGeneric(t, value[n:], dStep[k:], dZero[k:], w[n:], dw[n:], rank[n:], prune)
			}
		},
		gridError: gridError,
	}
}

// wholeGroups returns how many groups of a row of n weights are not cut short,
// and how many weights they hold.
func (g GridRow) wholeGroups(n int) (groups, weights int) {
	groups = n / g.Group
	return groups, groups * g.Group
}

// last is the grid of the n weights that make up the last group, number k; there
// may be none.
func (g GridRow) last(k, n int) GridRow { return GridRow{n, g.Step[k:], g.Zero[k:]} }

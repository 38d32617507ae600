package besa

import (
	"math"
	"slices"
)

// exactCounts turns learned sparsities into prune counts that sum to target
// over all layers: every row's sparsity moves by the same shift, and the last few weights
// go to the rows with the largest remainders.
func exactCounts(allocs []*Allocation, target int) [][]int {
	total := func(shift float64) int {
		n := 0
		for _, a := range allocs {
			for i := range a.Rows {
				n += int(shifted(a.share(i), shift, a.Cols))
			}
		}
		return n
	}
	lo, hi := -1.0, 1.0 // total(lo) ≤ target ≤ total(hi)
	for range 60 {
		if mid := (lo + hi) / 2; total(mid) <= target {
			lo = mid
		} else {
			hi = mid
		}
	}
	type remainder struct {
		layer, row int
		value      float64
	}
	var rest []remainder
	counts := make([][]int, len(allocs))
	missing := target
	for l, a := range allocs {
		counts[l] = make([]int, a.Rows)
		for i := range a.Rows {
			x := shifted(a.share(i), lo, a.Cols)
			counts[l][i] = int(x)
			missing -= int(x)
			if int(x) < a.Cols {
				rest = append(rest, remainder{l, i, x - math.Floor(x)})
			}
		}
	}
	slices.SortStableFunc(rest, func(x, y remainder) int {
		switch {
		case x.value > y.value:
			return -1
		case x.value < y.value:
			return 1
		}
		return 0
	})
	for _, r := range rest[:min(max(missing, 0), len(rest))] {
		counts[r.layer][r.row]++
	}
	return counts
}

// shifted is the real-valued prune count of a row whose sparsity moves by shift.
func shifted(share, shift float64, cols int) float64 {
	return min(max((share+shift)*float64(cols), 0), float64(cols))
}

// uniformCounts prunes s·cols weights of every row; where that is no integer
// the rows take turns, so that the layer as a whole meets s.
func uniformCounts(rows, cols int, sparsity float64) []int {
	counts := make([]int, rows)
	done := 0
	for i := range counts {
		next := int(math.Round(sparsity * float64(cols) * float64(i+1)))
		counts[i], done = next-done, next
	}
	return counts
}

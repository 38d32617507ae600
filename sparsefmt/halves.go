package sparsefmt

import (
	"math/bits"
	"slices"
)

// halves says which rows of a tile belong to the high half: bit r is set when
// the survivors of row r are in the high nibbles of the stream. Half of the
// rows, rounded down, are in the high half. It is 0 for 16-bit codings.
type halves uint16

func (h halves) high(r int) bool { return h>>r&1 != 0 }

// valid reports whether h divides a tile of n rows.
func (h halves) valid(n int) bool {
	return bits.OnesCount16(uint16(h)) == n/2 && uint32(h)>>n == 0
}

// sum adds up the survivors of the two halves; counts has them by row.
func (h halves) sum(counts []int) (low, high int) {
	for r, c := range counts {
		if h.high(r) {
			high += c
		} else {
			low += c
		}
	}
	return low, high
}

// balance divides the rows of a tile so that both halves have about as many
// survivors: the rows are paired with their neighbours in order of size, and
// the pairs, those that differ most first, are turned so that the difference
// of the halves shrinks. Any division would be valid; this one makes the
// stream nearly as short as it can be although rows differ in sparsity.
func balance(counts []int) halves {
	n := len(counts)
	order := make([]int, n) // rows, most survivors first
	for r := range order {
		order[r] = r
	}
	slices.SortStableFunc(order, func(a, b int) int { return counts[b] - counts[a] })
	var h halves
	diff := 0 // low half less high half
	if n%2 != 0 {
		// The row without a partner is in the low half; the lightest costs least.
		diff = counts[order[n-1]]
	}
	pairs := make([][2]int, n/2)
	for k := range pairs {
		pairs[k] = [2]int{order[2*k], order[2*k+1]}
	}
	gap := func(p [2]int) int { return counts[p[0]] - counts[p[1]] }
	slices.SortStableFunc(pairs, func(a, b [2]int) int { return gap(b) - gap(a) })
	for _, p := range pairs {
		if diff > 0 {
			h |= 1 << p[0] // the larger row to the high half
			diff -= gap(p)
		} else {
			h |= 1 << p[1]
			diff += gap(p)
		}
	}
	return h
}

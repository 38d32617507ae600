package tokenizer

import (
	"iter"
	"math/bits"
)

// table finds entries of a list by the hashes of their keys. It holds their
// positions only, six bytes an entry: a map of a vocabulary's texts takes ten
// times that.
type table struct {
	places []int32 // position + 1; 0: free
}

// newTable makes a table for n entries.
func newTable(n int) table { return table{make([]int32, n+n/2+1)} }

// place is where to look first. The high bits of the hash decide.
func (t table) place(hash uint64) int {
	high, _ := bits.Mul64(hash, uint64(len(t.places)))
	return int(high)
}

// find yields the positions whose hash may be this one; the caller compares
// the keys.
func (t table) find(hash uint64) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for at := t.place(hash); t.places[at] != 0; {
			if !yield(t.places[at] - 1) {
				return
			}
			if at++; at == len(t.places) {
				at = 0
			}
		}
	}
}

// insert adds a position. There must be room.
func (t table) insert(hash uint64, position int32) {
	at := t.place(hash)
	for t.places[at] != 0 {
		if at++; at == len(t.places) {
			at = 0
		}
	}
	t.places[at] = position + 1
}

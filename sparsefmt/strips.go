package sparsefmt

import "encoding/binary"

// In the packed layout masks are coded by columns: a byte has the bits of one
// column in the eight slots of a strip. Some input channels matter more than
// others to every row, so columns differ in density, and the writer sorts
// them into classes with a code of their own each.

const (
	stripRows  = 8
	maxClasses = 16
)

// strips is the number of strips in tiles of the given geometry.
func (g *geometry) strips() int {
	n := 0
	for t := range g.tiles {
		n += ceilDiv(g.tileRows(t), stripRows)
	}
	return n
}

// eachStrip calls f with the mask bytes of every strip's slots, one row after
// the other: masks has the mask sections of all tiles.
func (g *geometry) eachStrip(masks []byte, f func(strip int, rows []byte)) {
	strip, size := 0, 8*g.words
	for t := range g.tiles {
		for n := g.tileRows(t); n > 0; n -= stripRows {
			rows := size * min(n, stripRows)
			f(strip, masks[:rows])
			masks = masks[rows:]
			strip++
		}
	}
}

// toColumns writes a byte per column from the mask rows of a strip; columns
// has room for whole mask words.
func toColumns(rows []byte, words int, columns []byte) {
	size := 8 * words
	for b := range size {
		var x uint64
		for r := 0; r*size < len(rows); r++ {
			x |= uint64(rows[r*size+b]) << (8 * r)
		}
		binary.LittleEndian.PutUint64(columns[8*b:], transpose8(x))
	}
}

// toRows is the inverse of toColumns; it returns the bits of rows that the
// strip does not have, which must be zero.
func toRows(columns []byte, words int, rows []byte) (beyond uint64) {
	size := 8 * words
	n := len(rows) / size
	if n == stripRows {
		r0, r1, r2, r3 := rows[:size], rows[size:2*size], rows[2*size:3*size], rows[3*size:4*size]
		r4, r5, r6, r7 := rows[4*size:5*size], rows[5*size:6*size], rows[6*size:7*size], rows[7*size:8*size]
		for b := range size {
			x := transpose8(binary.LittleEndian.Uint64(columns[8*b:]))
			r0[b], r1[b], r2[b], r3[b] = byte(x), byte(x>>8), byte(x>>16), byte(x>>24)
			r4[b], r5[b], r6[b], r7[b] = byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56)
		}
		return 0
	}
	for b := range size {
		x := transpose8(binary.LittleEndian.Uint64(columns[8*b:]))
		for r := range n {
			rows[r*size+b] = byte(x >> (8 * r))
		}
		beyond |= x >> (8 * n)
	}
	return beyond
}

// transpose8 transposes an 8×8 bit matrix: bit c of byte r becomes bit r of
// byte c.
func transpose8(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00aa00aa00aa00aa
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000cccc0000cccc
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000f0f0f0f0
	return x ^ t ^ t<<28
}

// byClass lists the columns class by class, in order within each; ends has
// the ends of the classes.
func byClass(classes []byte) (order []int32, ends [maxClasses]int) {
	for _, c := range classes {
		ends[c]++
	}
	var at [maxClasses]int
	for c, sum := 0, 0; c < maxClasses; c++ {
		at[c] = sum
		sum += ends[c]
		ends[c] = sum
	}
	order = make([]int32, len(classes))
	for j, c := range classes {
		order[at[c]] = int32(j)
		at[c]++
	}
	return order, ends
}

package kernel

import (
	"encoding/binary"
	"math/bits"
)

// A spread moves survivors, packed one per byte into the low bytes of a word,
// to the positions of the bits of an 8-bit mask. Survivor k moves up by
// (position of the k-th set bit) − k bytes, 0 to 7: by 4, 2 and 1 where that
// number has those bits. by4, by2 and by1 select the bytes that receive a
// moved survivor; kept selects the positions of the mask. Selections are the
// low nibble of a byte in spreads[0] and the high nibble in spreads[1], so one
// word carries the two halves of a Q4 block.
type spread struct{ by4, by2, by1, kept uint64 }

var spreads = newSpreads()

func newSpreads() *[2][256]spread {
	var t [2][256]spread
	for mask := range 256 {
		var s spread
		k := 0
		for pos := range 8 {
			if mask>>pos&1 == 0 {
				continue
			}
			at, d := k, pos-k
			if d&4 != 0 {
				at += 4
				s.by4 |= 15 << (8 * at)
			}
			if d&2 != 0 {
				at += 2
				s.by2 |= 15 << (8 * at)
			}
			if d&1 != 0 {
				at++
				s.by1 |= 15 << (8 * at)
			}
			s.kept |= 15 << (8 * pos)
			k++
		}
		t[0][mask] = s
		t[1][mask] = spread{s.by4 << 4, s.by2 << 4, s.by1 << 4, s.kept << 4}
	}
	return &t
}

const (
	everyByte  = 0x0101010101010101
	lowNibbles = 0x0f * everyByte
)

// expandBlock returns the 16 code bytes of a Q4 block: byte j has weight j in
// its low and weight j+16 in its high nibble. The block's survivors are the
// next bytes of s in the nibble plane given by shift (0 or 4); pruned weights
// get the code fill. It reads at most 32 bytes of s.
func expandBlock(s *[64]byte, mask uint32, shift uint, fill uint8) (lo, hi uint64) {
	m0, m1, m2, m3 := mask&255, mask>>8&255, mask>>16&255, mask>>24
	n0 := uint(bits.OnesCount8(uint8(m0)))
	n1 := n0 + uint(bits.OnesCount8(uint8(m1)))
	n2 := n1 + uint(bits.OnesCount8(uint8(m2)))
	le, f := binary.LittleEndian, everyByte*uint64(fill)
	// Codes relative to fill: then pruned positions are zero until the end.
	a := (le.Uint64(s[0:8])>>shift ^ f) & lowNibbles
	b := (le.Uint64(s[n0:n0+8])>>shift ^ f) & lowNibbles
	c := (le.Uint64(s[n1:n1+8])>>shift ^ f) & lowNibbles
	d := (le.Uint64(s[n2:n2+8])>>shift ^ f) & lowNibbles
	f |= f << 4
	lo = spreadPair(a|c<<4, &spreads[0][m0], &spreads[1][m2]) ^ f
	hi = spreadPair(b|d<<4, &spreads[0][m1], &spreads[1][m3]) ^ f
	return lo, hi
}

// spreadPair spreads the low nibbles of x by l and the high ones by h.
func spreadPair(x uint64, l, h *spread) uint64 {
	x ^= (x ^ x<<32) & (l.by4 | h.by4)
	x ^= (x ^ x<<16) & (l.by2 | h.by2)
	x ^= (x ^ x<<8) & (l.by1 | h.by1)
	return x & (l.kept | h.kept)
}

package kernel

import (
	"fmt"
	"math/bits"
)

// The expansion's functions write a row of a pruned matrix as llama.cpp stores
// it. The row is given by its mask, a bit per weight in little-endian 64-bit
// words, least significant first, 1 for the survivors, and by the survivors
// themselves, one after the other at the start of stream. Rows are whole blocks of
// 32 weights; mask bits beyond the row are 0.

// expandBlockWeights is the number of weights in a block of Q4_0, Q4_1 and Q8_0.
const expandBlockWeights = 32

// expandAhead is how much of stream must be there behind the first survivor
// that is not the row's own: so much is loaded at once from anywhere.
const expandAhead = 64

// Bytes of a block.
const (
	q40Bytes = 2 + 16 // scale, codes
	q41Bytes = 4 + 16 // scale, minimum, codes
	q80Bytes = 2 + 32
)

// Nibbles are the survivors of a row with codes of 4 bits.
type Nibbles struct {
	Mask   []byte
	Stream []byte // a code per byte, in the low nibbles or in the high ones
	High   bool
	// Group is the number of weights that share a scale, a multiple of 32; the
	// last group may be shorter.
	Group int
}

// expandKernels are the expansion's functions of an implementation, with the
// meaning of the exported ones; shift is that of the nibbles, per the base-2
// logarithm of the number of blocks that share a scale.
type expandKernels struct {
	q40 func(dst, mask, stream []byte, shift uint, scales []byte, per uint)
	q41 func(dst, mask, stream []byte, shift uint, heads []uint32, zeros []byte, per uint)
	q80 func(dst, mask, stream, scales []byte, per uint)
	f16 func(dst, mask, stream []byte)

	count  func(mask []byte) int
	minima func(heads []uint32, scales, zeros []byte) bool
}

// Q40 writes blocks of Q4_0: dst is 18 bytes for every 32 weights; scales has
// two bytes for every group, which are copied. Pruned weights get code 8.
func (n *Nibbles) Q40(dst, scales []byte) {
	per := checkExpand("Q40", dst, q40Bytes, n.Mask, n.Stream, 1, len(scales)/2, n.Group)
	current.Load().expand.q40(dst, n.Mask, n.Stream, n.shift(), scales, per)
}

// Q41 writes blocks of Q4_1: dst is 20 bytes for every 32 weights; heads has
// every group's scale in its low and the minimum in its high 16 bits, zeros the
// code of its pruned weights.
func (n *Nibbles) Q41(dst []byte, heads []uint32, zeros []byte) {
	sameLength("Q41", len(heads), len(zeros))
	per := checkExpand("Q41", dst, q41Bytes, n.Mask, n.Stream, 1, len(heads), n.Group)
	current.Load().expand.q41(dst, n.Mask, n.Stream, n.shift(), heads, zeros, per)
}

// ExpandQ80 writes blocks of Q8_0: dst is 34 bytes for every 32 weights, stream
// has a byte for every survivor, scales two for every group. Pruned weights get
// code 0.
func ExpandQ80(dst, mask, stream, scales []byte, group int) {
	per := checkExpand("ExpandQ80", dst, q80Bytes, mask, stream, 1, len(scales)/2, group)
	current.Load().expand.q80(dst, mask, stream, scales, per)
}

// Expand16 writes 16-bit values, any number of them; stream has the survivors',
// and pruned ones are 0.
func Expand16(dst, mask, stream []byte) {
	if weights := len(dst) / 2; len(mask) != 8*((weights+63)/64) {
		panic(fmt.Sprintf("kernel: Expand16: %d mask bytes for %d weights", len(mask), weights))
	}
	checkStream("Expand16", mask, stream, 2)
	current.Load().expand.f16(dst, mask, stream)
}

func (n *Nibbles) shift() uint {
	if n.High {
		return 4
	}
	return 0
}

// checkExpand returns the logarithm of the number of blocks in a group.
func checkExpand(name string, dst []byte, block int, mask, stream []byte, width, groups, group int) uint {
	blocks, per := len(dst)/block, group/expandBlockWeights
	if len(dst)%block != 0 || len(mask) != 8*((blocks+1)/2) || per == 0 || group != expandBlockWeights<<bits.TrailingZeros(uint(per)) || groups != (blocks+per-1)/per {
		panic(fmt.Sprintf("kernel: %s: %d bytes of %d a block, %d of mask, %d groups of %d", name, len(dst), block, len(mask), groups, group))
	}
	checkStream(name, mask, stream, width)
	return uint(bits.TrailingZeros(uint(per)))
}

// checkStream makes sure that no load leaves the stream: masks come from files.
func checkStream(name string, mask, stream []byte, width int) {
	if n := width * Survivors(mask); len(stream) < n+expandAhead {
		panic(fmt.Sprintf("kernel: %s: %d bytes of stream for %d of survivors and %d behind them", name, len(stream), n, expandAhead))
	}
}

// Survivors counts the bits of a mask of whole words.
func Survivors(mask []byte) int {
	if len(mask)%8 != 0 {
		panic(fmt.Sprintf("kernel: Survivors: %d bytes of mask", len(mask)))
	}
	return current.Load().expand.count(mask)
}

// Minima makes the heads that [Nibbles.Q41] takes: every group's fp16 scale d,
// two bytes of scales, and the fp16 -z·d for its zero code z below 16; +0 where z
// is 0. It returns whether fp16 holds all of these products, else heads has no meaning.
func Minima(heads []uint32, scales, zeros []byte) bool {
	sameLength("Minima", len(heads), len(zeros), len(scales)/2)
	return current.Load().expand.minima(heads, scales, zeros)
}

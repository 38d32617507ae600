package kernel

import (
	"fmt"
	"math/bits"
)

// Row is a row of a pruned matrix, which the expansion's functions write as
// llama.cpp stores it. Rows are whole blocks of 32 weights.
type Row struct {
	// Mask has a bit per weight in little-endian 64-bit words, least significant
	// first, 1 for the survivors. Bits beyond the row are 0.
	Mask []byte
	// Stream begins with the survivors, one after the other.
	Stream []byte
	// Ahead is what will be read soon: memory sends it while this row is
	// expanded. It may be nil.
	Ahead []byte
}

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

// Nibbles is a row of codes of 4 bits, in the low nibbles of Stream's bytes or in
// the high ones.
type Nibbles struct {
	Row
	High bool
	// Group is the number of weights that share a scale, a multiple of 32; the
	// last group may be shorter.
	Group int
}

// expandKernels are the expansion's functions of an implementation. Those of rows
// do whole mask words, and are nil where the portable twins do all of a row.
// shift is that of the nibbles, per the base-2 logarithm of the number of blocks
// that share a scale. ahead is asked for, pace bytes on with every word.
type expandKernels struct {
	q40 func(words int, dst, mask, stream, ahead *byte, pace int, shift uint, scales *byte, per uint)
	q41 func(words int, dst, mask, stream, ahead *byte, pace int, shift uint, heads *uint32, zeros *byte, per uint)
	q80 func(words int, dst, mask, stream, ahead *byte, pace int, scales *byte, per uint)
	f16 func(words int, dst, mask, stream, ahead *byte, pace int)

	count  func(mask []byte) int
	minima func(heads []uint32, scales, zeros []byte) bool
}

// Q40 writes blocks of Q4_0: dst is 18 bytes for every 32 weights; scales has
// two bytes for every group, which are copied. Pruned weights get code 8.
func (n *Nibbles) Q40(dst, scales []byte) {
	per := n.check("Q40", dst, q40Bytes, len(scales)/2, n.Group)
	f, w := current.Load().expand.q40, len(dst)/(2*q40Bytes)
	if f == nil || w == 0 {
		expandQ40Generic(dst, n.Mask, n.Stream, n.shift(), scales, per)
		return
	}
	f(w, &dst[0], &n.Mask[0], &n.Stream[0], n.ahead(), n.pace(w), n.shift(), &scales[0], per)
	if dst = dst[2*w*q40Bytes:]; len(dst) != 0 {
		expandQ40Generic(dst, n.Mask[8*w:], n.behind(w), n.shift(), scales[2*(2*w>>per):], per)
	}
}

// Q41 writes blocks of Q4_1: dst is 20 bytes for every 32 weights; heads has
// every group's scale in its low and the minimum in its high 16 bits, zeros the
// code of its pruned weights.
func (n *Nibbles) Q41(dst []byte, heads []uint32, zeros []byte) {
	sameLength("Q41", len(heads), len(zeros))
	per := n.check("Q41", dst, q41Bytes, len(heads), n.Group)
	f, w := current.Load().expand.q41, len(dst)/(2*q41Bytes)
	if f == nil || w == 0 {
		expandQ41Generic(dst, n.Mask, n.Stream, n.shift(), heads, zeros, per)
		return
	}
	f(w, &dst[0], &n.Mask[0], &n.Stream[0], n.ahead(), n.pace(w), n.shift(), &heads[0], &zeros[0], per)
	if dst = dst[2*w*q41Bytes:]; len(dst) != 0 {
		expandQ41Generic(dst, n.Mask[8*w:], n.behind(w), n.shift(), heads[2*w>>per:], zeros[2*w>>per:], per)
	}
}

// Q80 writes blocks of Q8_0: dst is 34 bytes for every 32 weights; Stream has a
// byte for every survivor, scales two for every group. Pruned weights get code 0.
func (r *Row) Q80(dst, scales []byte, group int) {
	per := r.check("Q80", dst, q80Bytes, len(scales)/2, group)
	f, w := current.Load().expand.q80, len(dst)/(2*q80Bytes)
	if f == nil || w == 0 {
		expandQ80Generic(dst, r.Mask, r.Stream, scales, per)
		return
	}
	f(w, &dst[0], &r.Mask[0], &r.Stream[0], r.ahead(), r.pace(w), &scales[0], per)
	if dst = dst[2*w*q80Bytes:]; len(dst) != 0 {
		expandQ80Generic(dst, r.Mask[8*w:], r.behind(w), scales[2*(2*w>>per):], per)
	}
}

// Values writes 16-bit values, any number of them; Stream has the survivors',
// and pruned ones are 0.
func (r *Row) Values(dst []byte) {
	if weights := len(dst) / 2; len(r.Mask) != 8*((weights+63)/64) {
		panic(fmt.Sprintf("kernel: Values: %d mask bytes for %d weights", len(r.Mask), weights))
	}
	r.checkStream("Values", 2)
	f, w := current.Load().expand.f16, len(dst)/(2*64)
	if f == nil || w == 0 {
		expand16Generic(dst, r.Mask, r.Stream)
		return
	}
	f(w, &dst[0], &r.Mask[0], &r.Stream[0], r.ahead(), r.pace(w))
	if dst = dst[2*64*w:]; len(dst) != 0 {
		expand16Generic(dst, r.Mask[8*w:], r.Stream[2*Survivors(r.Mask[:8*w]):])
	}
}

func (n *Nibbles) shift() uint {
	if n.High {
		return 4
	}
	return 0
}

// ahead is where Ahead begins, or anything that is there to be asked for.
func (r *Row) ahead() *byte {
	if len(r.Ahead) == 0 {
		return &r.Stream[0]
	}
	return &r.Ahead[0]
}

// pace is how much of Ahead goes with each of w words.
func (r *Row) pace(w int) int { return len(r.Ahead) / w }

// behind is the stream without the survivors of w words, a byte each.
func (r *Row) behind(w int) []byte { return r.Stream[Survivors(r.Mask[:8*w]):] }

// check returns the logarithm of the number of blocks in a group.
func (r *Row) check(name string, dst []byte, block int, groups, group int) uint {
	blocks, per := len(dst)/block, group/expandBlockWeights
	if len(dst)%block != 0 || len(r.Mask) != 8*((blocks+1)/2) || per == 0 || group != expandBlockWeights<<bits.TrailingZeros(uint(per)) || groups != (blocks+per-1)/per {
		panic(fmt.Sprintf("kernel: %s: %d bytes of %d a block, %d of mask, %d groups of %d", name, len(dst), block, len(r.Mask), groups, group))
	}
	r.checkStream(name, 1)
	return uint(bits.TrailingZeros(uint(per)))
}

// checkStream makes sure that no load leaves the stream: masks come from files.
// Survivors are counted only where all of the row would be too many.
func (r *Row) checkStream(name string, width int) {
	if len(r.Stream) >= width*8*len(r.Mask)+expandAhead {
		return
	}
	if n := width * Survivors(r.Mask); len(r.Stream) < n+expandAhead {
		panic(fmt.Sprintf("kernel: %s: %d bytes of stream for %d of survivors and %d behind them", name, len(r.Stream), n, expandAhead))
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

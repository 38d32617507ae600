package kernel

import (
	"encoding/binary"
	"math/bits"
)

// The portable functions of the expansion are the definition of what the others
// compute. They do any number of blocks, or of values.

func genericExpand() expandKernels {
	return expandKernels{count: countBitsGeneric, minima: minimaGeneric}
}

// prunedQ40 is Q4_0's code for zero.
const prunedQ40 = 8

func expandQ40Generic(dst, mask, stream []byte, shift uint, scales []byte, per uint) {
	at := 0
	for b := 0; len(dst) != 0; b++ {
		m := binary.LittleEndian.Uint32(mask[4*b:])
		lo, hi := expandBlock((*[64]byte)(stream[at:]), m, shift, prunedQ40)
		q := (*[q40Bytes]byte)(dst)
		copy(q[:2], scales[2*(b>>per):])
		binary.LittleEndian.PutUint64(q[2:], lo)
		binary.LittleEndian.PutUint64(q[10:], hi)
		at += bits.OnesCount32(m)
		dst = dst[q40Bytes:]
	}
}

func expandQ41Generic(dst, mask, stream []byte, shift uint, heads []uint32, zeros []byte, per uint) {
	at := 0
	for b := 0; len(dst) != 0; b++ {
		m := binary.LittleEndian.Uint32(mask[4*b:])
		lo, hi := expandBlock((*[64]byte)(stream[at:]), m, shift, zeros[b>>per])
		q := (*[q41Bytes]byte)(dst)
		binary.LittleEndian.PutUint32(q[0:], heads[b>>per])
		binary.LittleEndian.PutUint64(q[4:], lo)
		binary.LittleEndian.PutUint64(q[12:], hi)
		at += bits.OnesCount32(m)
		dst = dst[q41Bytes:]
	}
}

func expandQ80Generic(dst, mask, stream, scales []byte, per uint) {
	clear(dst)
	at := 0
	for b := 0; len(dst) != 0; b++ {
		copy(dst[:2], scales[2*(b>>per):])
		for m := binary.LittleEndian.Uint32(mask[4*b:]); m != 0; m &= m - 1 {
			dst[2+bits.TrailingZeros32(m)] = stream[at]
			at++
		}
		dst = dst[q80Bytes:]
	}
}

func expand16Generic(dst, mask, stream []byte) {
	clear(dst)
	at := 0
	for w := 0; 8*w < len(mask); w++ {
		out := dst[2*64*w:]
		for word := binary.LittleEndian.Uint64(mask[8*w:]); word != 0; word &= word - 1 {
			j := bits.TrailingZeros64(word)
			out[2*j], out[2*j+1] = stream[at], stream[at+1]
			at += 2
		}
	}
}

func countBitsGeneric(mask []byte) int {
	n := 0
	for ; len(mask) >= 8; mask = mask[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(mask))
	}
	return n
}

func minimaGeneric(heads []uint32, scales, zeros []byte) bool {
	for k, z := range zeros {
		d := binary.LittleEndian.Uint16(scales[2*k:])
		least, ok := Minimum(d, z)
		if !ok {
			return false
		}
		heads[k] = uint32(d) | uint32(least)<<16
	}
	return true
}

// Minimum returns the fp16 -zero·scale, and whether fp16 holds the product exactly.
// A product of zero is +0, whatever the scale; no other of a scale that is not
// finite is exact.
func Minimum(scale uint16, zero uint8) (uint16, bool) {
	// |scale| = frac·2^(exp-25), with frac below 2^11.
	frac, exp := uint32(scale&0x3ff), uint32(scale&0x7c00)>>10
	if exp == 0 {
		exp = 1
	} else {
		frac |= 1 << 10
	}
	p := frac * uint32(zero)
	if p == 0 {
		return 0, true
	}
	if over := bits.Len32(p) - 11; over > 0 {
		if p&(1<<over-1) != 0 {
			return 0, false
		}
		p >>= over
		exp += uint32(over)
	}
	if exp >= 31 {
		return 0, false
	}
	m := p // subnormal, unless it has its eleventh bit
	if p >= 1<<10 {
		m = exp<<10 | p&0x3ff
	}
	return ^scale&0x8000 | uint16(m), true
}

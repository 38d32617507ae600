package main

import (
	"fmt"
	"math/bits"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// expand writes the expansion's functions for AVX-512 with VBMI and VBMI2, which
// move bytes anywhere, and to where the bits of a mask say. They do whole words of the mask.
func expand() {
	expandNibbles("expandQ40", "scales *byte", 2)
	expandNibbles("expandQ41", "heads *uint32, zeros *byte", 4)
	expandBytes()
	expandValues()
	countBits()
	minima()
}

// words walks a row, and asks memory for what its caller reads after it.
type words struct{ left, dst, mask, stream, ahead, pace GPVirtual }

// rowParameters are the functions' first.
const rowParameters = "words int, dst, mask, stream, ahead *byte, pace int"

func newWords() *words {
	return &words{param("words"), param("dst"), param("mask"), param("stream"), param("ahead"), param("pace")}
}

// each writes the loop over steps of n words, while there are as many; body
// fills size bytes of dst for each word. A step asks memory for a few lines, pace
// bytes on with every word: many at once would hold up the loads behind them.
func (w *words) each(n, size, lines int, body func()) {
	label := fmt.Sprintf("words%d", n)
	SUBQ(Imm(uint64(n)), w.left)
	JL(LabelRef(label + "Done"))
	Label(label)
	PREFETCHT0(Mem{Base: w.ahead})
	for i := 1; i < lines; i++ {
		PREFETCHT0(Mem{Base: w.ahead, Index: w.pace, Scale: uint8(i * n / lines)})
	}
	LEAQ(Mem{Base: w.ahead, Index: w.pace, Scale: uint8(n)}, w.ahead)
	body()
	ADDQ(Imm(uint64(8*n)), w.mask)
	ADDQ(Imm(uint64(n*size)), w.dst)
	SUBQ(Imm(uint64(n)), w.left)
	JGE(LabelRef(label))
	Label(label + "Done")
	ADDQ(Imm(uint64(n)), w.left)
}

// expandInto moves the survivors of a step's word i, a byte each, to their
// places in all, which has what else there is, and goes on to those behind.
func (w *words) expandInto(all VecVirtual, i int) {
	mask, k, count := Mem{Base: w.mask, Disp: 8 * i}, K(), GP64()
	KMOVQ(mask, k)
	moveByMask("VPEXPANDB", Mem{Base: w.stream}, k, all)
	POPCNTQ(mask, count)
	ADDQ(count, w.stream)
}

// groups are those of the blocks of a row, of which 2^per share one.
type groups struct{ per, block GPVirtual }

func newGroups() *groups {
	g := &groups{param("per"), GP64()}
	XORQ(g.block, g.block)
	return g
}

// mask is the mask of the groups in as many blocks, max(1, blocks>>per).
func (g *groups) mask(blocks int) Op {
	n, one, k := GP64(), GP64(), K()
	MOVQ(I32(int32(blocks)), n)
	SHRXQ(g.per, n, n)
	MOVQ(I32(1), one)
	CMPQ(n, one)
	CMOVQLT(one, n)
	SHLXQ(n, one, one)
	DECQ(one)
	KMOVQ(one, k)
	return k
}

// next returns the group that the next step begins with, and goes on by its blocks.
func (g *groups) next(blocks int) GPVirtual {
	at := GP64()
	SHRXQ(g.per, g.block, at)
	ADDQ(Imm(uint64(blocks)), g.block)
	return at
}

// mostBlocks is the number of blocks in the longest step.
const mostBlocks = 8

// table returns the 64 bytes at(i, group) for the row's per, where block b of a step
// is in the step's group(b).
func (g *groups) table(name string, at func(i int, group func(block int) int) int) VecVirtual {
	m, last := GLOBL(name, RODATA|NOPTR), bits.TrailingZeros(mostBlocks)
	for per := range last + 1 { // the last also for all above
		for i := 0; i < 64; i += 8 {
			var x uint64
			for j := range 8 {
				x |= uint64(at(i+j, func(block int) int { return block >> per })) << (8 * j)
			}
			DATA(64*per+i, U64(x))
		}
	}
	row, most, start, v := GP64(), GP64(), GP64(), ZMM()
	MOVQ(g.per, row)
	MOVQ(I32(int32(last)), most)
	CMPQ(row, most)
	CMOVQGT(most, row)
	SHLQ(Imm(6), row)
	LEAQ(m, start)
	VMOVDQU64(Mem{Base: start, Index: row, Scale: 1}, v)
	return v
}

// joins returns n tables for VPERMT2B. They make the blocks of a step, as they are
// stored, of registers of their codes, data bytes a block, and of one of the
// heads of its groups.
func (g *groups) joins(head, data, n int) []VecVirtual {
	const second = 64 // register
	tables := make([]VecVirtual, n)
	for t := range tables {
		tables[t] = g.table(fmt.Sprintf("join%dto%d_%d", head, data, t), func(i int, group func(int) int) int {
			block, j := i/(head+data), i%(head+data)
			if j < head {
				return second + group(64/data*t+block)*head + j
			}
			return block*data + j - head
		})
	}
	return tables
}

// expandNibbles does two words, which are four blocks, in a register: block b's
// codes in order are lanes 2b and 2b+1, and its bytes lane 2b | lane 2b+1<<4.
// Codes come in either half of a byte: the other half is rid of at the end.
func expandNibbles(name, parameters string, head int) {
	avx512.begin(name, "("+rowParameters+", shift uint, "+parameters+", per uint)", "is its portable twin for whole words.")
	right, left, down, up := param("shift"), GP64(), XMM(), XMM()
	MOVQ(I32(4), left)
	SUBQ(right, left)
	VMOVQ(right, down)
	VMOVQ(left, up)
	low, g := byteConstant(15), newGroups()
	joins := g.joins(head, 16, 2)
	var heads, zeros GPVirtual
	var eights VecVirtual
	var spread []VecVirtual
	if head == 2 {
		heads, eights = param("scales"), byteConstant(0x88)
	} else {
		heads, zeros = param("heads"), param("zeros")
		for word := range 4 {
			spread = append(spread, g.table(fmt.Sprintf("spread%d", word), func(i int, group func(int) int) int { return group(2*word + i/32) }))
		}
	}
	w := newWords()
	for n := mostBlocks / 2; n > 0; n /= 2 { // words a step
		present := g.mask(2 * n)
		w.each(n, 2*(head+16), (n+1)/2, func() {
			at, tops, zero := g.next(2*n), ZMM(), ZMM()
			if head == 2 {
				VMOVDQU16_Z(Mem{Base: heads, Index: at, Scale: 2}, present, tops)
			} else {
				VMOVDQU32_Z(Mem{Base: heads, Index: at, Scale: 4}, present, tops)
				VMOVDQU8_Z(Mem{Base: zeros, Index: at, Scale: 1}, present, zero)
				VPSLLW(down, zero, zero)
			}
			for first := 0; first < n; first += 2 {
				pair := min(2, n)
				var all [2]VecVirtual
				for i := range pair {
					all[i] = ZMM()
					if head == 2 {
						VMOVDQA64(eights, all[i])
					} else {
						VPERMB(zero, spread[first+i], all[i])
					}
					w.expandInto(all[i], first+i)
				}
				even, odd := ZMM(), ZMM()
				VSHUFI64X2(Imm(0x88), all[pair-1], all[0], even)
				VSHUFI64X2(Imm(0xdd), all[pair-1], all[0], odd)
				VPSRLW(down, even, even)
				VPSLLW(up, odd, odd)
				const choose = 0xe4 // the first's bits choose: the third's, else the second's
				VPTERNLOGQ(Imm(choose), low, odd, even)
				start := first * 2 * (head + 16)
				end := start + pair*2*(head+16) - 16 // the last lane goes where it is
				if pair == 2 {
					VEXTRACTI32X4(Imm(3), even, Mem{Base: w.dst, Disp: end})
				} else {
					VEXTRACTI128(Imm(1), even.AsY(), Mem{Base: w.dst, Disp: end})
				}
				VPERMT2B(tops, joins[first/2], even)
				if pair == 2 {
					VMOVDQU64(even, Mem{Base: w.dst, Disp: start})
				} else {
					VMOVDQU(even.AsY(), Mem{Base: w.dst, Disp: start})
				}
			}
		})
	}
	end()
}

func expandBytes() {
	avx512.begin("expandQ80", "("+rowParameters+", scales *byte, per uint)", "is its portable twin for whole words.")
	g := newGroups()
	scales, joins, zero, w := param("scales"), g.joins(2, 32, 2), ZMM(), newWords()
	VPXORQ(zero, zero, zero)
	for n := 2; n > 0; n /= 2 {
		present := g.mask(2 * n)
		w.each(n, 68, n, func() {
			tops := ZMM()
			VMOVDQU16_Z(Mem{Base: scales, Index: g.next(2 * n), Scale: 2}, present, tops)
			for i := range n {
				all := ZMM()
				VMOVDQA64(zero, all) // merging: the zeroing form waits for its destination
				w.expandInto(all, i)
				VEXTRACTI32X4(Imm(3), all, Mem{Base: w.dst, Disp: 68*i + 68 - 16})
				VPERMT2B(tops, joins[i], all)
				VMOVDQU64(all, Mem{Base: w.dst, Disp: 68 * i})
			}
		})
	}
	end()
}

func expandValues() {
	avx512.begin("expand16", "("+rowParameters+")", "is its portable twin for whole words.")
	zero, w := ZMM(), newWords()
	VPXORQ(zero, zero, zero)
	w.each(1, 128, 1, func() {
		for i := range 2 {
			mask, all, k, count := Mem{Base: w.mask, Disp: 4 * i}, ZMM(), K(), GP64()
			KMOVD(mask, k)
			VMOVDQA64(zero, all)
			moveByMask("VPEXPANDW", Mem{Base: w.stream}, k, all)
			VMOVDQU64(all, Mem{Base: w.dst, Disp: 64 * i})
			POPCNTL(mask, count.As32())
			LEAQ(Mem{Base: w.stream, Index: count, Scale: 2}, w.stream)
		}
	})
	end()
}

// countBits does eight words a round, and what is left under a mask.
func countBits() {
	avx512.begin("countBits", "(mask []byte) int", "is its portable twin.")
	mask, n := base("mask"), Load(Param("mask").Len(), GP64()).(GPVirtual)
	sum, one, rest := ZMM(), GP64(), K()
	VPXORQ(sum, sum, sum)
	SUBQ(Imm(64), n)
	JL(LabelRef("rest"))
	Label("eight")
	count := ZMM()
	VPOPCNTQ(Mem{Base: mask}, count)
	VPADDQ(count, sum, sum)
	ADDQ(Imm(64), mask)
	SUBQ(Imm(64), n)
	JGE(LabelRef("eight"))
	Label("rest")
	ADDQ(Imm(64), n)
	SHRQ(Imm(3), n)
	MOVQ(I32(1), one)
	SHLXQ(n, one, one)
	DECQ(one)
	KMOVQ(one, rest)
	VPOPCNTQ_Z(Mem{Base: mask}, rest, count)
	VPADDQ(count, sum, sum)
	half := ZMM()
	VEXTRACTI64X4(Imm(1), sum, half.AsY())
	VPADDQ(half.AsY(), sum.AsY(), sum.AsY())
	VEXTRACTI128(Imm(1), sum.AsY(), half.AsX())
	VPADDQ(half.AsX(), sum.AsX(), sum.AsX())
	VPSRLDQ(Imm(8), sum.AsX(), half.AsX())
	VPADDQ(half.AsX(), sum.AsX(), sum.AsX())
	total := GP64()
	VMOVQ(sum.AsX(), total)
	VZEROUPPER()
	Store(total, ReturnIndex(0))
	RET()
}

// minima computes with float32, in which products of an fp16 and 4 bits are
// exact, a register of groups a round; the last may have fewer, under a mask.
func minima() {
	avx512.begin("minima", "(heads []uint32, scales, zeros []byte) (inexact int)", "is its portable twin, but counts what is not exact.")
	heads, scales, zeros := base("heads"), base("scales"), base("zeros")
	n := Load(Param("heads").Len(), GP64()).(GPVirtual)
	none, count, at, present := ZMM(), GP64(), GP64(), K()
	VPXORQ(none, none, none)
	XORQ(count, count)
	XORQ(at, at)
	KXNORW(present, present, present)
	Label("groups")
	SUBQ(Imm(16), n)
	JGE(LabelRef("whole"))
	ADDQ(Imm(16), n)
	JLE(LabelRef("done"))
	one := GP64()
	MOVQ(I32(1), one)
	SHLXQ(n, one, one)
	DECQ(one)
	KMOVW(one.As32(), present)
	XORQ(n, n)
	Label("whole")
	zero, scale, product, least, back := ZMM(), ZMM(), ZMM(), YMM(), ZMM()
	some, off, c := K(), K(), GP64()
	VPMOVZXBD_Z(Mem{Base: zeros, Index: at, Scale: 1}, present, zero)
	VPTESTMD(zero, zero, some)
	VCVTDQ2PS(zero, zero)
	VCVTPH2PS_Z(Mem{Base: scales, Index: at, Scale: 2}, present, scale)
	VMULPS(zero, scale, product)
	Comment("0 - product; +0 where the zero code is 0")
	VSUBPS_Z(product, none, some, product)
	VCVTPS2PH(Imm(0), product, least)
	VCVTPH2PS(least, back)
	VSUBPS(product, back, back)
	const notEqual = 4 // true for NaN, too: infinity less infinity
	VCMPPS(Imm(notEqual), none, back, some, off)
	KMOVW(off, c.As32())
	POPCNTQ(c, c)
	ADDQ(c, count)
	VPMOVZXWD_Z(Mem{Base: scales, Index: at, Scale: 2}, present, scale)
	VPMOVZXWD(least, product)
	VPSLLD(Imm(16), product, product)
	VPORD(product, scale, scale)
	VMOVDQU32(scale, present, Mem{Base: heads, Index: at, Scale: 4})
	ADDQ(Imm(16), at)
	JMP(LabelRef("groups"))
	Label("done")
	VZEROUPPER()
	Store(count, Return("inexact"))
	RET()
}

// moveByMask: the first elements of src go to where mask has bits, in order; the
// other elements of dst stay. The instructions are Go's assembler's, but avo has not heard of them.
func moveByMask(opcode string, src, mask, dst Op) {
	Instruction(&ir.Instruction{Opcode: opcode, Operands: []Op{src, mask, dst}, Inputs: []Op{src, mask, dst}, Outputs: []Op{dst}, ISA: []string{"AVX512_VBMI2"}})
}

// byteConstant is a register with b in every byte.
func byteConstant(b int32) VecVirtual {
	r, v := GP32(), ZMM()
	MOVL(I32(b), r)
	VPBROADCASTB(r, v)
	return v
}

package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// expand writes the expansion's functions for AVX-512 with VBMI2, which moves
// bytes to where the bits of a mask say. They do whole words of the mask.
func expand() {
	expandNibbles("expandQ40", "scales []byte", 2)
	expandNibbles("expandQ41", "heads []uint32, zeros []byte", 4)
	expandBytes()
	expandValues()
	countBits()
	minima()
}

// words walks a row a mask word at a time.
type words struct {
	dst, mask, stream GPVirtual
	bits              GPVirtual // of the present word
}

// streamAhead is how far before their use, in bytes, survivors are fetched. The
// masks of the rows that follow stand behind the survivors of a tile, and the
// CPU's own prefetching has to start anew for each.
const streamAhead = 8192

// eachWord writes the loop; body fills size bytes of dst. A survivor has width
// bytes of stream.
func eachWord(size, width int, body func(w *words)) {
	n := param("words")
	w := &words{dst: base("dst"), mask: base("mask"), stream: base("stream"), bits: GP64()}
	JMP(LabelRef("entry"))
	Label("word")
	MOVQ(Mem{Base: w.mask}, w.bits)
	PREFETCHT0(Mem{Base: w.stream, Disp: streamAhead})
	body(w)
	count := GP64()
	POPCNTQ(w.bits, count)
	if width == 1 {
		ADDQ(count, w.stream)
	} else {
		LEAQ(Mem{Base: w.stream, Index: count, Scale: uint8(width)}, w.stream)
	}
	ADDQ(Imm(8), w.mask)
	ADDQ(Imm(uint64(size)), w.dst)
	Label("entry")
	DECQ(n)
	JGE(LabelRef("word"))
	end()
}

// groupsOf counts blocks, of which 2^per share a scale.
type groupsOf struct{ block, per, at GPVirtual }

func newGroups() *groupsOf {
	g := &groupsOf{block: GP64(), per: param("per"), at: GP64()}
	XORQ(g.block, g.block)
	return g
}

// next returns the present block's group, and goes to the next.
func (g *groupsOf) next() GPVirtual {
	SHRXQ(g.per, g.block, g.at)
	INCQ(g.block)
	return g.at
}

// expandNibbles: head is the bytes of a block before its codes. The codes in
// order are the lanes L0 … L3 of a register; a block's byte j has weights j and
// j+16: L0 | L1<<4, L2 | L3<<4.
func expandNibbles(name, groups string, head int) {
	avx512.begin(name, "(words int, dst, mask, stream []byte, shift uint, "+groups+", per uint)", "is its portable twin for whole words.")
	shift := XMM()
	VMOVQ(param("shift"), shift)
	low, pruned := byteConstant(15), VecVirtual(nil)
	var scales, zeros GPVirtual
	second := K()
	if head == 2 {
		scales, pruned = base("scales"), byteConstant(8)
	} else {
		scales, zeros = base("heads"), base("zeros")
		halves := GP64()
		MOVQ(I32(-1), halves)
		SHLQ(Imm(32), halves)
		KMOVQ(halves, second)
	}
	g := newGroups()
	eachWord(2*(head+16), 1, func(w *words) {
		codes, all, x := ZMM(), ZMM(), GP32()
		k := K()
		KMOVQ(Mem{Base: w.mask}, k)
		VMOVDQU64(Mem{Base: w.stream}, codes)
		VPSRLW(shift, codes, codes)
		VPANDQ(low, codes, codes)
		if head == 2 {
			VMOVDQA64(pruned, all)
		}
		for b := range 2 {
			at := g.next()
			if head == 2 {
				MOVWLZX(Mem{Base: scales, Index: at, Scale: 2}, x)
				MOVW(x.As16(), Mem{Base: w.dst, Disp: b * (head + 16)})
				continue
			}
			MOVL(Mem{Base: scales, Index: at, Scale: 4}, x)
			MOVL(x, Mem{Base: w.dst, Disp: b * (head + 16)})
			if zero := (Mem{Base: zeros, Index: at, Scale: 1}); b == 0 {
				VPBROADCASTB(zero, all)
			} else {
				VPBROADCASTB(zero, second, all)
			}
		}
		moveByMask("VPEXPANDB", codes, k, all)
		high, blocks := ZMM(), ZMM()
		VPSLLW(Imm(4), all, high)
		VSHUFI64X2(Imm(0x08), all, all, blocks) // L0, L2
		VSHUFI64X2(Imm(0x0d), high, high, high) // L1, L3
		VPORQ(high, blocks, blocks)
		VMOVDQU(blocks.AsX(), Mem{Base: w.dst, Disp: head})
		VEXTRACTI128(Imm(1), blocks.AsY(), Mem{Base: w.dst, Disp: 2*head + 16})
	})
}

func expandBytes() {
	avx512.begin("expandQ80", "(words int, dst, mask, stream, scales []byte, per uint)", "is its portable twin for whole words.")
	scales, zero := base("scales"), ZMM()
	VPXORQ(zero, zero, zero)
	g := newGroups()
	eachWord(68, 1, func(w *words) {
		codes, all, x := ZMM(), ZMM(), GP32()
		k := K()
		KMOVQ(Mem{Base: w.mask}, k)
		VMOVDQU64(Mem{Base: w.stream}, codes)
		VMOVDQA64(zero, all) // merging: the zeroing form waits for its destination
		moveByMask("VPEXPANDB", codes, k, all)
		for b := range 2 {
			MOVWLZX(Mem{Base: scales, Index: g.next(), Scale: 2}, x)
			MOVW(x.As16(), Mem{Base: w.dst, Disp: 34 * b})
		}
		VMOVDQU(all.AsY(), Mem{Base: w.dst, Disp: 2})
		VEXTRACTI64X4(Imm(1), all, Mem{Base: w.dst, Disp: 36})
	})
}

func expandValues() {
	avx512.begin("expand16", "(words int, dst, mask, stream []byte)", "is its portable twin for whole words.")
	zero := ZMM()
	VPXORQ(zero, zero, zero)
	eachWord(128, 2, func(w *words) {
		first, count := GP64(), GP64()
		MOVL(w.bits.As32(), first.As32())
		POPCNTQ(first, count)
		for b, from := range []Mem{{Base: w.stream}, {Base: w.stream, Index: count, Scale: 2}} {
			values, all := ZMM(), ZMM()
			k := K()
			KMOVD(Mem{Base: w.mask, Disp: 4 * b}, k)
			VMOVDQU64(from, values)
			VMOVDQA64(zero, all)
			moveByMask("VPEXPANDW", values, k, all)
			VMOVDQU64(all, Mem{Base: w.dst, Disp: 64 * b})
		}
	})
}

func countBits() {
	const unroll = 4
	avx512.begin("countBits", "(mask []byte) int", "is its portable twin.")
	mask, n := base("mask"), Load(Param("mask").Len(), GP64()).(GPVirtual)
	var sums [unroll]GPVirtual
	for i := range sums {
		sums[i] = GP64()
		XORQ(sums[i], sums[i])
	}
	Comment("four words a round, then one")
	SUBQ(Imm(8*unroll), n)
	JL(LabelRef("singleEntry"))
	Label("unrolled")
	for i, sum := range sums {
		c := GP64()
		POPCNTQ(Mem{Base: mask, Disp: 8 * i}, c)
		ADDQ(c, sum)
	}
	ADDQ(Imm(8*unroll), mask)
	SUBQ(Imm(8*unroll), n)
	JGE(LabelRef("unrolled"))
	Label("singleEntry")
	ADDQ(Imm(8*unroll-8), n)
	JL(LabelRef("done"))
	Label("single")
	c := GP64()
	POPCNTQ(Mem{Base: mask}, c)
	ADDQ(c, sums[0])
	ADDQ(Imm(8), mask)
	SUBQ(Imm(8), n)
	JGE(LabelRef("single"))
	Label("done")
	for _, sum := range sums[1:] {
		ADDQ(sum, sums[0])
	}
	Store(sums[0], ReturnIndex(0))
	RET()
}

// minima computes with float32, in which products of an fp16 and 4 bits are exact.
func minima() {
	avx512.begin("minima", "(heads []uint32, scales, zeros []byte) (inexact int)", "is its portable twin for whole registers; it counts what is not exact.")
	heads, scales, zeros := base("heads"), base("scales"), base("zeros")
	n := Load(Param("heads").Len(), GP64()).(GPVirtual)
	none, count, at := ZMM(), GP64(), GP64()
	VPXORQ(none, none, none)
	XORQ(count, count)
	XORQ(at, at)
	JMP(LabelRef("entry"))
	Label("groups")
	zero, scale, product, least, back := ZMM(), ZMM(), ZMM(), YMM(), ZMM()
	some, off, c := K(), K(), GP64()
	VPMOVZXBD(Mem{Base: zeros, Index: at, Scale: 1}, zero)
	VPTESTMD(zero, zero, some)
	VCVTDQ2PS(zero, zero)
	VCVTPH2PS(Mem{Base: scales, Index: at, Scale: 2}, scale)
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
	VPMOVZXWD(Mem{Base: scales, Index: at, Scale: 2}, scale)
	VPMOVZXWD(least, product)
	VPSLLD(Imm(16), product, product)
	VPORD(product, scale, scale)
	VMOVDQU32(scale, Mem{Base: heads, Index: at, Scale: 4})
	ADDQ(Imm(16), at)
	Label("entry")
	SUBQ(Imm(16), n)
	JGE(LabelRef("groups"))
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

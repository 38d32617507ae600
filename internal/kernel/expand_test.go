package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// prunedRow is a random row of the expansion with everything around it known.
type prunedRow struct {
	kept   []bool
	mask   []byte
	stream []byte // survivors of one byte; exactly expandAhead more behind them
}

func newPrunedRow(r *rand.Rand, weights int, keep float64) *prunedRow {
	p := &prunedRow{kept: make([]bool, weights), mask: make([]byte, 8*((weights+63)/64))}
	n := 0
	for j := range p.kept {
		if r.Float64() < keep {
			p.kept[j] = true
			p.mask[j/8] |= 1 << (j % 8)
			n++
		}
	}
	p.stream = make([]byte, n+expandAhead)
	fillRandom(r, p.stream)
	return p
}

func (p *prunedRow) row() *Row { return &Row{Mask: p.mask, Stream: p.stream, Ahead: p.stream} }

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// codes is the definition: what every weight's code is; pruned gives that of
// group k.
func (p *prunedRow) codes(group int, code func(stream byte) byte, pruned func(k int) byte) []byte {
	out, next := make([]byte, len(p.kept)), 0
	for j, kept := range p.kept {
		if out[j] = pruned(j / group); kept {
			out[j] = code(p.stream[next])
			next++
		}
	}
	return out
}

// nibbleBlocks joins codes to blocks of Q4_0 or Q4_1, whose heads it is given.
func nibbleBlocks(codes []byte, head func(block int) []byte) []byte {
	var out []byte
	for b := 0; len(codes) > 0; b++ {
		out = append(out, head(b)...)
		for j := range 16 {
			out = append(out, codes[j]|codes[16+j]<<4)
		}
		codes = codes[32:]
	}
	return out
}

// expandInto calls f with n bytes to fill and checks that it fills no others.
func expandInto(t *testing.T, n int, f func(dst []byte)) []byte {
	t.Helper()
	const guard = 80
	all := bytes.Repeat([]byte{0xa5}, n+2*guard)
	f(all[guard : guard+n : guard+n])
	for i, b := range all {
		if (i < guard || i >= guard+n) && b != 0xa5 {
			t.Fatalf("byte %d, outside of the %d to fill, is overwritten", i-guard, n)
		}
	}
	return all[guard : guard+n]
}

// TestExpand compares every implementation with the definition: rows of every
// number of blocks, so every tail, in all group sizes, from empty to full.
func TestExpand(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for blocks := 1; blocks <= 21; blocks++ {
			for _, group := range []int{32, 64, 128, 256} {
				for _, keep := range []float64{0, 0.1, 0.5, 0.9, 1} {
					r := rand.New(rand.NewPCG(uint64(blocks), uint64(group)))
					testExpand(t, r, newPrunedRow(r, 32*blocks, keep), group)
				}
			}
		}
	})
}

func testExpand(t *testing.T, r *rand.Rand, p *prunedRow, group int) {
	t.Helper()
	blocks, groups := len(p.kept)/32, (len(p.kept)+group-1)/group
	name := fmt.Sprintf("%d blocks in groups of %d", blocks, group)
	scales, zeros, heads := make([]byte, 2*groups), make([]byte, groups), make([]uint32, groups)
	fillRandom(r, scales)
	for k := range groups {
		zeros[k], heads[k] = byte(r.IntN(16)), r.Uint32()
	}
	scale := func(b int) []byte { k := 32 * b / group; return scales[2*k : 2*k+2] }
	head := func(b int) []byte {
		h := heads[32*b/group]
		return []byte{byte(h), byte(h >> 8), byte(h >> 16), byte(h >> 24)}
	}
	eight := func(int) byte { return 8 }
	for _, high := range []bool{false, true} {
		n := Nibbles{Row: *p.row(), High: high, Group: group}
		code := func(b byte) byte { return b >> n.shift() & 15 }
		want := nibbleBlocks(p.codes(group, code, eight), scale)
		if got := expandInto(t, 18*blocks, func(dst []byte) { n.Q40(dst, scales) }); !bytes.Equal(got, want) {
			t.Fatalf("%s, high %v: Q4_0 is % x, want % x", name, high, got, want)
		}
		want = nibbleBlocks(p.codes(group, code, func(k int) byte { return zeros[k] }), head)
		if got := expandInto(t, 20*blocks, func(dst []byte) { n.Q41(dst, heads, zeros) }); !bytes.Equal(got, want) {
			t.Fatalf("%s, high %v: Q4_1 is % x, want % x", name, high, got, want)
		}
	}
	codes := p.codes(group, func(b byte) byte { return b }, func(int) byte { return 0 })
	var want []byte
	for b := range blocks {
		want = append(append(want, scale(b)...), codes[32*b:32*b+32]...)
	}
	got := expandInto(t, 34*blocks, func(dst []byte) { p.row().Q80(dst, scales, group) })
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: Q8_0 is % x, want % x", name, got, want)
	}
}

// TestExpand16 does the same with rows of any length.
func TestExpand16(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for weights := 1; weights <= 330; weights++ {
			r := rand.New(rand.NewPCG(uint64(weights), 7))
			p := newPrunedRow(r, weights, []float64{0, 0.5, 0.5, 1}[weights%4])
			n := len(p.stream) - expandAhead
			stream := make([]byte, 2*n+expandAhead)
			fillRandom(r, stream)
			want, next := make([]byte, 2*weights), 0
			for j, kept := range p.kept {
				if kept {
					copy(want[2*j:2*j+2], stream[next:])
					next += 2
				}
			}
			if got := expandInto(t, 2*weights, func(dst []byte) { (&Row{Mask: p.mask, Stream: stream}).Values(dst) }); !bytes.Equal(got, want) {
				t.Fatalf("%d weights: % x, want % x", weights, got, want)
			}
		}
	})
}

// TestExpandMisuse: nothing is read or written where slices do not fit.
func TestExpandMisuse(t *testing.T) {
	mask, stream := bytes.Repeat([]byte{255}, 16), make([]byte, 128+expandAhead)
	for name, f := range map[string]func(){
		"stream":        func() { (&Nibbles{Row{mask, stream[1:], nil}, false, 64}).Q40(make([]byte, 72), make([]byte, 4)) },
		"mask":          func() { (&Nibbles{Row{mask[:8], stream, nil}, false, 64}).Q40(make([]byte, 72), make([]byte, 4)) },
		"scales":        func() { (&Nibbles{Row{mask, stream, nil}, false, 64}).Q40(make([]byte, 72), make([]byte, 2)) },
		"part of block": func() { (&Nibbles{Row{mask, stream, nil}, false, 64}).Q40(make([]byte, 71), make([]byte, 4)) },
		"group":         func() { (&Nibbles{Row{mask, stream, nil}, false, 96}).Q40(make([]byte, 72), make([]byte, 4)) },
		"no group":      func() { (&Nibbles{Row{mask, stream, nil}, false, 0}).Q40(make([]byte, 72), nil) },
		"zeros": func() {
			(&Nibbles{Row{mask, stream, nil}, false, 64}).Q41(make([]byte, 80), make([]uint32, 2), make([]byte, 1))
		},
		"bytes":        func() { (&Row{mask, stream[1:], nil}).Q80(make([]byte, 136), make([]byte, 4), 64) },
		"values":       func() { (&Row{mask, stream, nil}).Values(make([]byte, 256)) },
		"values' mask": func() { (&Row{mask, make([]byte, 512), nil}).Values(make([]byte, 258)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestMinima: every scale, finite or not, with every zero code, among others.
func TestMinima(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		const groups = 35 // two registers and a rest
		heads, scales, zeros := make([]uint32, groups), bytes.Repeat([]byte{0x00, 0x3c}, groups), bytes.Repeat([]byte{3}, groups)
		for scale := range 1 << 16 {
			for zero := range byte(16) {
				at := (16*scale + int(zero)) % groups
				scales[2*at], scales[2*at+1], zeros[at] = byte(scale), byte(scale>>8), zero
				least, exact := Minimum(uint16(scale), zero)
				if ok := Minima(heads, scales, zeros); ok != exact {
					t.Fatalf("scale %#04x, zero code %d: %v, want %v", scale, zero, ok, exact)
				}
				scales[2*at], scales[2*at+1], zeros[at] = 0x00, 0x3c, 3
				if !exact {
					continue
				}
				for k, h := range heads {
					want := uint32(0xc2003c00) // -3·1
					if k == at {
						want = uint32(scale) | uint32(least)<<16
					}
					if h != want {
						t.Fatalf("scale %#04x, zero code %d: head %d is %#08x, want %#08x", scale, zero, k, h, want)
					}
				}
			}
		}
	})
}

// TestSurvivors: masks of any number of words.
func TestSurvivors(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for words := range 40 {
			r := rand.New(rand.NewPCG(uint64(words), 9))
			p, want := newPrunedRow(r, 64*words, 0.4), 0
			for _, kept := range p.kept {
				if kept {
					want++
				}
			}
			if got := Survivors(p.mask); got != want {
				t.Fatalf("%d words: %d survivors, want %d", words, got, want)
			}
		}
	})
}

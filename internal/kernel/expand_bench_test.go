package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkExpandRow expands rows that the first cache holds, half of them
// pruned: what the functions cost by themselves, without memory.
func BenchmarkExpandRow(b *testing.B) {
	for _, cols := range []int{576, 4096} {
		r := rand.New(rand.NewPCG(1, 2))
		p := newPrunedRow(r, cols, 0.5)
		n := Nibbles{Row: *p.row(), Group: 64}
		wide := make([]byte, 2*len(p.stream))
		v := Row{Mask: p.mask, Stream: wide, Ahead: wide}
		zeros, heads := make([]byte, cols/32), make([]uint32, cols/32)
		for _, c := range []struct {
			name string
			size int
			f    func(dst []byte)
		}{
			{"q40", 18, func(dst []byte) { n.Q40(dst, wide[:cols/32]) }},
			{"q41", 20, func(dst []byte) { n.Q41(dst, heads[:cols/64], zeros[:cols/64]) }},
			{"q80", 34, func(dst []byte) { n.Row.Q80(dst, wide[:cols/16], 32) }},
			{"16", 64, func(dst []byte) { v.Values(dst) }},
		} {
			b.Run(fmt.Sprintf("%s_%d", c.name, cols), func(b *testing.B) {
				dst := make([]byte, cols/32*c.size)
				b.SetBytes(int64(len(dst)))
				for b.Loop() {
					c.f(dst)
				}
			})
		}
	}
}

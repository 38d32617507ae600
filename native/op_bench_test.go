package native

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"besa/sparsefmt"
)

var (
	opRows   = flag.Int("op.rows", 4096, "BenchmarkOp: rows of the matrix")
	opCols   = flag.Int("op.cols", 4096, "BenchmarkOp: columns of the matrix")
	opWindow = flag.Int("op.window", 0, "BenchmarkOp: prune the same share in every run of so many weights")
	opGroup  = flag.Int("op.group", 128, "BenchmarkOp: weights per scale")
	opCoding = flag.String("op.coding", "q4_sym", "BenchmarkOp: q4_sym, q8_sym, f16 or bf16")
	opShares = flag.String("op.sparsity", "0,0.3,0.4,0.5,0.6,0.7", "BenchmarkOp: shares of pruned weights")
)

// BenchmarkOp compares products in ggml, stock's (repacked, where it does that) against the plugin's, in
// one process, interleaved: eight different matrices in one graph, so that none
// stays in a cache, and tokens of generation, of short prompts and of long ones. The
// ratio is stock's median time over the plugin's. With BESA_NATIVE_SPARSITY=0 the
// plugin's kernels multiply what is hardly pruned too.
func BenchmarkOp(b *testing.B) {
	l := inGGML(b)
	coding, err := sparsefmt.ParseCoding(*opCoding)
	if err != nil {
		b.Fatal(err)
	}
	theirs := plainCPU
	if coding == sparsefmt.CodingQ4Sym {
		theirs = repacked
	}
	for _, share := range strings.Split(*opShares, ",") {
		sparsity, err := strconv.ParseFloat(share, 64)
		if err != nil {
			b.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		var data [][]byte
		for range 8 {
			if coding == sparsefmt.CodingQ4Sym {
				data = append(data, prunedQ4(rnd, *opRows, *opCols, *opGroup, sparsity, *opWindow))
				continue
			}
			s := shape{*opRows, *opCols, *opGroup, evenly(1 - sparsity)}
			m := s.matrix(rnd, coding, func() float32 { return 0.5 + rnd.Float32() })
			keepNonZero(m)
			data = append(data, dense(b, m))
		}
		us, stock := l.weights(b, ours, coding.Type(), *opRows, *opCols, data), l.weights(b, theirs, coding.Type(), *opRows, *opCols, data)
		for _, threads := range []int{1, 2} {
			for _, tokens := range []int{1, 2, 3, 4, 5, 8, 16, 32, 128} {
				b.Run(fmt.Sprintf("sparsity=%g/threads=%d/tokens=%d", sparsity, threads, tokens), func(b *testing.B) {
					x := normal(rnd, tokens**opCols)
					var a, z []float64
					for b.Loop() {
						_, s := l.run(b, stock, *opRows, tokens, threads, 3, x)
						a = append(a, s[1:]...)
						_, s = l.run(b, us, *opRows, tokens, threads, 3, x)
						z = append(z, s[1:]...)
					}
					b.ReportMetric(median(a)/8*1e3, "stock-ms")
					b.ReportMetric(median(z)/8*1e3, "besa-ms")
					b.ReportMetric(median(a)/median(z), "ratio")
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// keepNonZero makes survivors that are zero something else: the plugin, which sees
// an ordinary tensor, would count them as pruned.
func keepNonZero(m *sparsefmt.Matrix) {
	for i := range m.Codes { // nobody reads those of pruned weights
		if m.Codes[i] == 0 {
			m.Codes[i] = 1
		}
	}
	for i := range m.Values {
		if m.Values[i]&0x7fff == 0 {
			m.Values[i] = 0x3f80 // 1 in BF16, 1.875 in F16
		}
	}
}

//go:build amd64 && !purego

package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

var archImplementations = []*implementation{avx2, avx512, withBF16(avx512)}

var (
	avx2 = &implementation{
		name: "avx2",
		missing: lacking(
			feature{"AVX2", &cpu.X86.HasAVX2}, feature{"FMA", &cpu.X86.HasFMA}),
		gemm: microKernel[float32]{mr: len(tilesAVX2), nr: 16, kc: 768,
			per: 1, tile: tileAVX2, pack: packAVX2, packT: packTAVX2, packRows: packRowsGeneric[float32]},
		bf16: genericBF16(),
		vec: vectorKernels[float32]{
			dot: dotAVX2, maximum: maximumAVX2, axpy: axpyAVX2, scale: scaleAVX2, add: addAVX2, mul: mulAVX2,
			exp: expAVX2, expSum: expSumAVX2, siluMul: siluMulAVX2, siluMulGrad: siluMulGradAVX2, softmaxGrad: softmaxGradAVX2,
			mulScaled: mulScaledAVX2, dot3: dot3AVX2, normGrad: normGradAVX2, normGradAdd: normGradAddAVX2,
			rotate: rotateAVX2, rotatePairs: rotatePairsAVX2},
		ranked: rankedAVX2,
		expand: genericExpand(),
		learn: learnKernels{sigmoid: sigmoidAVX2, mulAdd: mulAddAVX2, loss: lossAVX2,
			moments: momentsAVX2, descend: descendAVX2, drift: driftAVX2},
		peak: func(n int) int { peakAVX2(n); return n * peakMulAdds * 2 * 8 },
	}
	avx512 = &implementation{
		name: "avx512",
		missing: lacking(
			feature{"AVX2", &cpu.X86.HasAVX2}, feature{"FMA", &cpu.X86.HasFMA}, feature{"AVX512F", &cpu.X86.HasAVX512F}),
		gemm: microKernel[float32]{mr: len(tilesAVX512), nr: 32, kc: 768,
			per: 1, tile: tileAVX512, pack: packAVX512, packT: packTAVX512, packRows: packRowsGeneric[float32]},
		bf16: genericBF16(),
		vec: vectorKernels[float32]{
			dot: dotAVX512, maximum: maximumAVX512, axpy: axpyAVX512, scale: scaleAVX512, add: addAVX512, mul: mulAVX512,
			exp: expAVX512, expSum: expSumAVX512, siluMul: siluMulAVX512, siluMulGrad: siluMulGradAVX512, softmaxGrad: softmaxGradAVX512,
			mulScaled: mulScaledAVX512, dot3: dot3AVX512, normGrad: normGradAVX512, normGradAdd: normGradAddAVX512,
			rotate: rotateAVX512, rotatePairs: rotatePairsAVX512},
		ranked: rankedAVX512,
		expand: expandVBMI2(),
		learn: learnKernels{sigmoid: sigmoidAVX512, mulAdd: mulAddAVX512, loss: lossAVX512,
			moments: momentsAVX512, descend: descendAVX512, drift: driftAVX512},
		peak: func(n int) int { peakAVX512(n); return n * peakMulAdds * 2 * 16 },
	}
)

// withBF16 is avx512 with instructions for products in BF16.
func withBF16(avx512 *implementation) *implementation {
	i := *avx512
	i.name = "avx512bf16"
	more := lacking(feature{"AVX512BW", &cpu.X86.HasAVX512BW}, feature{"AVX512_BF16", &cpu.X86.HasAVX512BF16})
	i.missing = func() []string { return append(avx512.missing(), more()...) }
	i.bf16 = microKernel[float32]{mr: len(tilesAVX512BF16), nr: 32, kc: 768,
		per: 2, tile: tileAVX512BF16, pack: packAVX512BF16, packT: packTAVX512BF16, packRows: packRowsAVX512BF16}
	i.peakBF16 = func(n int) int { peakAVX512BF16(n); return n * peakMulAdds * 2 * 32 }
	return &i
}

// peakMulAdds is the number of vector instructions in a round of peakAVX2 and its like.
const peakMulAdds = 24

// feature is a property of the CPU; x/sys/cpu sets it only when the operating
// system saves the registers that it uses.
type feature struct {
	name string
	has  *bool
}

func lacking(required ...feature) func() []string {
	return func() []string {
		var names []string
		for _, f := range required {
			if !*f.has {
				names = append(names, f.name)
			}
		}
		return names
	}
}

// The tile functions by number of rows, less one.
type tileFunc func(k int, a *float32, rowA, colA int, b *float32, c *float32, ldc, cols int, accumulate bool, next *float32, nextStep int)

var (
	tilesAVX2   = [...]tileFunc{tile1AVX2, tile2AVX2, tile3AVX2, tile4AVX2, tile5AVX2, tile6AVX2}
	tilesAVX512 = [...]tileFunc{tile1AVX512, tile2AVX512, tile3AVX512, tile4AVX512, tile5AVX512, tile6AVX512,
		tile7AVX512, tile8AVX512, tile9AVX512, tile10AVX512, tile11AVX512, tile12AVX512}
	tilesAVX512BF16 = [...]tileFunc{tile1AVX512BF16, tile2AVX512BF16, tile3AVX512BF16, tile4AVX512BF16, tile5AVX512BF16, tile6AVX512BF16,
		tile7AVX512BF16, tile8AVX512BF16, tile9AVX512BF16, tile10AVX512BF16, tile11AVX512BF16, tile12AVX512BF16}
)

func tileAVX2(rows, cols, k int, a []float32, rowA, colA int, b []float32, c []float32, ldc int, accumulate bool, next []float32, nextStep int) {
	tilesAVX2[rows-1](k, &a[0], rowA, colA, &b[0], &c[0], ldc, cols, accumulate, unsafe.SliceData(next), nextStep)
}

func tileAVX512(rows, cols, k int, a []float32, rowA, colA int, b []float32, c []float32, ldc int, accumulate bool, next []float32, nextStep int) {
	tilesAVX512[rows-1](k, &a[0], rowA, colA, &b[0], &c[0], ldc, cols, accumulate, unsafe.SliceData(next), nextStep)
}

func tileAVX512BF16(rows, cols, k int, a []float32, rowA, colA int, b []float32, c []float32, ldc int, accumulate bool, next []float32, nextStep int) {
	tilesAVX512BF16[rows-1](k, &a[0], rowA, colA, &b[0], &c[0], ldc, cols, accumulate, unsafe.SliceData(next), nextStep)
}

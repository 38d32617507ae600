// Package kernel holds the inner loops of the engine: matrix products, vector
// functions, and the pool of goroutines that shares them out.
//
// In come slices and row-major views of them ([Mat]); out come results written
// into slices the caller owns. What products copy of their operands goes to
// buffers that are kept. There is no state but these and the chosen implementation.
//
// Every kernel has a portable Go version, always compiled, that defines its
// meaning; float32 also has assembly for AVX2 and AVX-512, written by the
// generator in _asm. The best implementation that the CPU supports is chosen
// at start-up; BESA_KERNEL=generic|avx2|avx512|avx512bf16 or [Use] forces one.
// float64 always runs the portable version: it serves derivative checks.
//
// Products take a [Precision]: [MatMul] in [BF16] rounds its operands while it
// copies them, and runs at twice the speed where the CPU has AVX512_BF16; the
// last implementation is avx512 with these products.
//
// Results are bit-identical for any number of threads: work is cut along the
// rows and columns of outputs, never along a sum. They do differ between
// implementations, whose orders of summation differ.
//
// Arguments whose shapes do not fit are a mistake of the caller's and panic.
//
// # Adding a kernel
//
// Write its portable version; add it to vectorKernels and genericVectors (or
// microKernel and genericKernel), its exported function with checks and
// dispatch, and its row in the tests, which then runs on every implementation.
// Describe its assembly once in _asm, in terms of registers of either width,
// name it in archImplementations and run go generate. A new instruction set is
// an isa in the generator and an entry, with all features that it needs, in
// archImplementations.
package kernel

//go:generate sh -c "cd _asm && go run . -family tile -out ../tile_amd64.s -stubs ../tile_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family peak -out ../peak_amd64.s -stubs ../peak_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family pack -out ../pack_amd64.s -stubs ../pack_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family vec -out ../vec_amd64.s -stubs ../vec_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family ranked -out ../ranked_amd64.s -stubs ../ranked_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family learn -out ../learn_amd64.s -stubs ../learn_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family expand -out ../expand_amd64.s -stubs ../expand_amd64.go -pkg kernel"

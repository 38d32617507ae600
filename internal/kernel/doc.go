// Package kernel holds the inner loops of the engine: matrix products, vector
// functions, and the pool of goroutines that shares them out.
//
// In come slices and row-major views of them ([Mat]); out come results written
// into slices the caller owns. Nothing here allocates per call, reads files or
// keeps state other than the chosen implementation.
//
// Every kernel has a portable Go version, always compiled, that defines its
// meaning; float32 also has assembly for AVX2 and AVX-512, written by the
// generator in _asm. The best implementation that the CPU supports is chosen
// at start-up; BESA_KERNEL=generic|avx2|avx512 or [Use] forces one. float64
// always runs the portable version: it serves derivative checks.
//
// Results are bit-identical for any number of threads: work is cut along the
// rows and columns of outputs, never along a sum. They do differ between
// implementations, whose orders of summation differ.
//
// Arguments whose shapes do not fit are a mistake of the caller's and panic.
package kernel

//go:generate sh -c "cd _asm && go run . -family tile -out ../tile_amd64.s -stubs ../tile_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family peak -out ../peak_amd64.s -stubs ../peak_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family pack -out ../pack_amd64.s -stubs ../pack_amd64.go -pkg kernel"
//go:generate sh -c "cd _asm && go run . -family vec -out ../vec_amd64.s -stubs ../vec_amd64.go -pkg kernel"

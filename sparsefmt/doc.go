// Package sparsefmt reads and writes sparse GGUF files: models whose pruned
// tensors are stored as masks and survivors. SPEC.md is the format's
// normative description; this package is one implementation of it.
//
// In: pruned matrices ([Matrix]) and the GGUF file they come from. Out: one
// valid GGUF v3 file ([Create]) with a logical view of its tensors ([Open]),
// its exact expansion to an ordinary GGUF ([File.ExpandTo]), and a check of
// every rule of the format ([Verify]). The package knows nothing of how
// weights are chosen; it imports package gguf only.
//
// Expanding is exact: the expanded tensor has the very bytes that quantising
// the pruned weights with the same scales and codes gives, zeros included.
//
// # Blob
//
// A pruned tensor NAME of rows × cols weights is stored as an I8 tensor
// NAME.besa, a blob of T = ceil(rows/16) tiles of 16 rows:
//
//	 0 "BESA"                           4 bytes
//	 4 layout = 1                       u8
//	 5 coding                           u8   1 q4_sym, 2 q4_asym, 3 f16, 4 bf16
//	 6 group                            u16  weights per scale: 32, 64, 128, or 0
//	 8 cols                             u32
//	12 rows                             u32
//	16 survivors                        u64
//	24 size of the blob                 u64
//	32 offsets of the tiles             (T+1) × u32, in units of 8 bytes
//	   zeros up to a multiple of 8
//	   tile 0 … tile T-1                each up to a multiple of 8
//	   64 zeros                         wide loads never leave the blob
//
// A 4-bit tile of R rows has a low half, its first L = ceil(R/2) rows, and a
// high half. Sections hold the rows in the order 0, L, 1, L+1, …, because a
// kernel runs row j and row L+j together:
//
//	masks   R × ceil(cols/64) × u64     bit i of word w: weight 64w+i is kept
//	scales  R × ceil(cols/group) × fp16
//	zeros   R × ceil(cols/group) × 4 bits, low nibble first (q4_asym only)
//	stream  max(survivors low, survivors high) bytes:
//	        low nibbles: codes of the survivors of rows 0 … L-1 in order
//	        high nibbles: those of rows L … R-1
//
// Each plane's position advances by the popcount of the masks, and the high
// plane can be used in place as 16·code. Averaged over 8 rows each, the planes
// have nearly the same length, so little is lost to the shorter one (see
// docs/decisions/0002-plain-layout-tiles.md). 16-bit tiles have masks in row
// order and a stream of u16 values.
//
// # Trust
//
// Nothing in a file is believed: sizes are checked before use, memory is
// bounded by the file's size, and no input makes the package panic. Errors
// about a file are [*RuleError] with the number of the broken rule.
package sparsefmt

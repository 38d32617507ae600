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
//	   halves of the tiles              T × u16, 4-bit codings only
//	   zeros up to a multiple of 8
//	   tile 0 … tile T-1                each up to a multiple of 8
//	   64 zeros                         wide loads never leave the blob
//
// Halves divide the rows of a 4-bit tile in two: bit r set means that row r
// is in the high half; half of the rows are. With R rows a tile is
//
//	masks   R × ceil(cols/64) × u64     bit i of word w: weight 64w+i is kept
//	scales  R × ceil(cols/group) × fp16
//	zeros   R × ceil(cols/group) × 4 bits, low nibble first (q4_asym only)
//	stream  max(survivors low, survivors high) bytes:
//	        low nibbles: codes of the survivors of the low half, row by row
//	        high nibbles: those of the high half
//
// where the rows of the first three sections are the first of the low half,
// the first of the high half, the second of the low half and so on, because a
// kernel runs such a pair together. Each plane's position advances by the
// popcount of the masks, and the high plane can be used in place as 16·code.
// The encoder divides the rows so that the planes have nearly the same length
// (docs/decisions/0002-plain-layout-tiles.md has the arithmetic). 16-bit tiles
// have masks in row order and a stream of u16 values.
//
// # Trust
//
// Nothing in a file is believed: sizes are checked before use, memory is
// bounded by the file's size, and no input makes the package panic. Errors
// about a file are [*RuleError] with the number of the broken rule.
package sparsefmt

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
// NAME.besa, in the plain layout a blob of T = ceil(rows/16) tiles of 16 rows:
//
//	 0 "BESA"                           4 bytes
//	 4 layout = 1                       u8
//	 5 coding                           u8   1 q4_sym, 2 q4_asym, 3 f16, 4 bf16, 5 q8_sym
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
// (docs/decisions/0002-plain-layout-tiles.md has the arithmetic). Tiles
// of the other codings have masks in row order and a stream of u16 values or
// signed bytes.
//
// # Packed layout
//
// The same content, entropy-coded in K chunks of C tiles, each decodable on its
// own:
//
//	 0 header as above, layout = 2      32 bytes
//	32 C                                u32
//	36 0                                u32
//	40 checksums of the chunks          K × u64, XXH3
//	   sizes of the chunks              K × u32
//	   chunk 0 … chunk K-1
//
// A chunk is a sequence of sections, whose lengths follow from what came before:
//
//	halves       as above
//	classes      u8 per column, 0 to 15
//	masks        one section per class: for every strip of 8 rows, a byte per
//	             column of that class
//	scales       all low bytes, all high bytes
//	zeros        as above
//	survivors    the tiles' streams; 16-bit values as low and high bytes
//
// A section is stored in blocks of 128 KiB, each raw, as one repeated byte, or
// Huffman-coded as in RFC 8878 (Zstandard), 4.2: a tree description, then four
// streams. Columns that are about as dense share a class, and so a code: that
// is the context of a mask byte. Both nibble planes are coded together, a byte
// being a pair of survivors.
//
// # Trust
//
// Nothing in a file is believed: sizes are checked before use, memory is
// bounded by the file's size, and no input makes the package panic. Errors
// about a file are [*RuleError] with the number of the broken rule.
package sparsefmt

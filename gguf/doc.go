// Package gguf reads and writes GGUF files, the model container of llama.cpp,
// and converts between ggml's tensor types and float32.
//
// In come files nobody vouches for: [Open] maps one into memory and checks
// every field of its header, so that whatever it hands out afterwards (pairs
// of metadata, tensor descriptions, slices of data) can be relied on. Out go
// float32 weights, bit for bit those of ggml ([File.ReadFloats],
// [Dequantize], [Quantize]), and new files ([Create]) that llama.cpp opens.
//
// # File layout
//
// All integers are little-endian. A string is a u64 length and that many
// bytes, nothing after them.
//
//	offset  size  field
//	     0     4  magic "GGUF"
//	     4     4  version, u32: 3 (2 has the same layout)
//	     8     8  number of tensors, u64
//	    16     8  number of metadata pairs, u64
//	    24        pairs, each:
//	                 key         string, 1 to 65535 bytes, unique
//	                 value type  u32, see [ValueType]
//	                 value       scalar: 1, 2, 4 or 8 bytes; a bool is 0 or 1
//	                             string
//	                             array: element type u32 (not array),
//	                             count u64, elements
//	              tensor descriptions, each:
//	                 name        string, 1 to 63 bytes, unique
//	                 dimensions  u32, 1 to 4
//	                 shape       u64 each, none 0; the first is the row length,
//	                             a multiple of the type's block
//	                 type        u32, see [Type]
//	                 offset      u64, from the start of the data section
//	              zeros up to the alignment (general.alignment, u32, default 32)
//	              data section: the tensors in the order of their
//	              descriptions, each padded with zeros to the alignment
//
// Offsets carry no freedom: a tensor starts where the padded one before it
// ends. The padding after the last may be missing, and bytes may follow it.
package gguf

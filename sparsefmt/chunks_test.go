package sparsefmt

import (
	"bytes"
	"slices"

	"github.com/zeebo/xxh3"
)

// chunkTableCases break what Open sees of packed blobs.
var chunkTableCases = []brokenFile{
	{rule: RuleChunkTable, name: "no_tiles", err: ErrMalformed, part: "0 tiles per chunk", packed: true, change: func(s *surgery) { le.PutUint32(s.blob(symName)[32:], 0) }},
	{rule: RuleChunkTable, name: "many_tiles", err: ErrMalformed, part: "must be 1 to 2730", packed: true, change: func(s *surgery) { le.PutUint32(s.blob(symName)[32:], 2731) }},
	{rule: RuleChunkTable, name: "reserved", err: ErrMalformed, part: "reserved field is 0x1", packed: true, change: func(s *surgery) { s.blob(symName)[36] = 1 }},
	{rule: RuleChunkTable, name: "more_chunks", err: ErrMalformed, part: "the chunks end at", packed: true, change: func(s *surgery) { le.PutUint32(s.blob(symName)[32:], 1) }},
	{rule: RuleChunkTable, name: "size", err: ErrMalformed, part: "the chunks end at", packed: true, change: func(s *surgery) { s.blob(symName)[48]++ }},
	{rule: RuleChunkTable, name: "huge", err: ErrMalformed, part: "the chunks end at", packed: true, change: func(s *surgery) { le.PutUint32(s.blob(symName)[48:], 1<<32-1) }},
	{rule: RuleChunkTable, name: "table_cut", err: ErrMalformed, part: "the table of 1 chunks", packed: true, change: func(s *surgery) { s.cut(symName, 51) }},
	{rule: RuleChunkTable, name: "header_cut", err: ErrMalformed, part: "the header has 40", packed: true, change: func(s *surgery) { s.cut(symName, 39) }},
	{rule: RuleChunkTable, name: "rows_without_chunks", err: ErrMalformed, part: "the table of", packed: true, change: func(s *surgery) {
		// A shape that no file of this size can hold: nothing may be allocated for it.
		s.put64(keyShape, 1, MaxDim)
		le.PutUint32(s.blob(symName)[12:], MaxDim)
	}},
	{rule: RuleBlobHeader, name: "plain_in_packed", err: ErrMalformed, part: "layout byte", packed: true, change: func(s *surgery) { s.blob(symName)[4] = 1 }},
	{rule: RuleBlobHeader, name: "packed_short", err: ErrMalformed, part: "31 bytes", packed: true, change: func(s *surgery) { s.resize(symName, 31) }},
}

// chunkCases break the inside of packed blobs.
var chunkCases = []brokenFile{
	{rule: RuleChunkSum, name: "flip", err: ErrChecksum, part: "chunk 0", packed: true, change: func(s *surgery) { s.blob(symName)[100] ^= 1 }},
	{rule: RuleChunkSum, name: "table", err: ErrChecksum, part: "chunk 0", packed: true, change: func(s *surgery) { s.blob(symName)[40] ^= 1 }},
	{rule: RuleSections, name: "empty", err: ErrMalformed, part: "halves: the chunk ends", packed: true, change: func(s *surgery) {
		s.blocks(symName, func([][]byte) [][]byte { return nil })
	}},
	{rule: RuleSections, name: "truncated", err: ErrMalformed, part: "survivors: the chunk ends", packed: true, change: func(s *surgery) {
		s.blocks(symName, func(b [][]byte) [][]byte { return b[:len(b)-1] })
	}},
	{rule: RuleSections, name: "trailing", err: ErrMalformed, part: "5 bytes are left", packed: true, change: func(s *surgery) {
		s.blocks(symName, func(b [][]byte) [][]byte { return append(b, []byte{1 | 1<<modeBits, 0, 0, 0, 0}) })
	}},
	{rule: RuleSections, name: "long_block", err: ErrMalformed, part: "are left in the chunk", packed: true, change: func(s *surgery) {
		s.block(symName, 0, func(b []byte) []byte { b[3] = 0xff; return b })
	}},
	{rule: RuleSections, name: "mode", err: ErrMalformed, part: "of mode 3", packed: true, change: func(s *surgery) {
		s.block(symName, 0, func(b []byte) []byte { b[0] |= 3; return b })
	}},
	{rule: RuleSections, name: "raw_length", err: ErrMalformed, part: "5 stored bytes of mode 0 for 4", packed: true, change: func(s *surgery) {
		s.block(symName, 0, func(b []byte) []byte { b[0] += 1 << modeBits; return append(b, 0) })
	}},
	{rule: RuleSections, name: "repeat_length", err: ErrMalformed, part: "2 stored bytes of mode 1", packed: true, change: func(s *surgery) {
		s.block(symName, 1, func(b []byte) []byte { b[0] += 1 << modeBits; return append(b, 0) })
	}},
	{rule: RuleSections, name: "short_huffman", err: ErrMalformed, part: "4 stored bytes of mode 2 for 4", packed: true, change: func(s *surgery) {
		s.block(symName, 0, func(b []byte) []byte { b[0] |= modeHuffman; return b })
	}},
	{rule: RuleSections, name: "tree", err: ErrMalformed, part: "survivors:", packed: true, change: func(s *surgery) {
		s.block(skewName, -1, func(b []byte) []byte { b[4] = 0; return b })
	}},
	{rule: RuleSections, name: "stream", err: ErrMalformed, part: "survivors:", packed: true, change: func(s *surgery) {
		s.block(skewName, -1, func(b []byte) []byte { b[len(b)-1] = 0; return b })
	}},
	{rule: RuleClasses, name: "class", err: ErrMalformed, part: "class 16", packed: true, change: func(s *surgery) {
		s.block(symName, 1, func(b []byte) []byte { b[4] = 16; return b })
	}},
	{rule: RuleClasses, name: "rows", err: ErrMalformed, part: "beyond the last row", packed: true, change: func(s *surgery) {
		// One row: bit 0 of every mask byte is used.
		s.block(tinyName, 2, func([]byte) []byte {
			return append([]byte{modeRaw | 32<<modeBits, 0, 0, 0}, bytes.Repeat([]byte{2}, 32)...)
		})
	}},
	{rule: RuleTileOffsets, name: "packed_halves", err: ErrMalformed, part: "halves", packed: true, change: func(s *surgery) {
		s.block(symName, 0, func(b []byte) []byte { b[4], b[5] = 0xff, 1; return b })
	}},
	{rule: RuleFinite, name: "packed_scale", err: ErrMalformed, part: "chunk 0: row 0", packed: true, change: func(s *surgery) {
		// One scale: its section of high bytes is one byte.
		s.block(tinyName, 4, func(b []byte) []byte { b[4] = 0x7c; return b })
	}},
	{rule: RuleSurvivors, name: "packed", err: ErrMalformed, part: "927", packed: true, change: func(s *surgery) {
		s.put64(keySurvivors, 0, 927)
		s.blob(symName)[16]++
	}},
	{rule: RuleBlobSum, name: "packed_table", err: ErrChecksum, part: "found", packed: true, change: func(s *surgery) { s.put64(keyBlobSum, 2, 1) }},
	{rule: RuleExpandedSum, name: "packed_table", err: ErrChecksum, part: "found", packed: true, change: func(s *surgery) { s.put64(keyExpandedSum, 3, 1) }},
}

// cut shortens a blob and its header's idea of its size.
func (s *surgery) cut(name string, size int) {
	s.resize(name, size)
	le.PutUint64(s.blob(name)[24:], uint64(size))
}

// block changes block i of the only chunk of a packed blob, or the last.
func (s *surgery) block(name string, i int, change func(b []byte) []byte) {
	s.blocks(name, func(b [][]byte) [][]byte {
		i := (i + len(b)) % len(b)
		b[i] = change(slices.Clone(b[i]))
		return b
	})
}

// blocks changes the stored blocks, with their headers, of the only chunk of a
// packed blob.
func (s *surgery) blocks(name string, change func(b [][]byte) [][]byte) {
	const table = packedHeader + sumBytes + sizeBytes
	blob := slices.Clone(s.blob(name))
	var blocks [][]byte
	for rest := blob[table:]; len(rest) > 0; {
		n := 4 + int(le.Uint32(rest)>>modeBits)
		blocks = append(blocks, rest[:n:n])
		rest = rest[n:]
	}
	chunk := slices.Concat(change(blocks)...)
	blob = append(blob[:table:table], chunk...)
	le.PutUint64(blob[packedHeader:], xxh3.Hash(chunk))
	le.PutUint32(blob[packedHeader+sumBytes:], uint32(len(chunk)))
	le.PutUint64(blob[24:], uint64(len(blob)))
	s.data[name+Suffix] = blob
	s.resize(name, len(blob))
}

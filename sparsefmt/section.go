package sparsefmt

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/huff0"
)

// A chunk of a packed blob is a sequence of sections, byte strings whose
// lengths follow from what was decoded before. A section is stored in blocks
// of blockBytes, the last what remains: a u32 with the mode in its low two
// bits and the number of stored bytes above, then those bytes.
const (
	blockBytes = 1 << 17
	// leastHuffman is the shortest block that is split into four streams.
	leastHuffman = 12
)

// The modes of a block.
const (
	modeRaw     = 0 // the bytes themselves
	modeRepeat  = 1 // one byte, repeated
	modeHuffman = 2 // a Huffman tree and four streams, RFC 8878 section 4.2
	modeBits    = 2 // of the block's first field
)

// sectionWriter appends sections to out.
type sectionWriter struct {
	out     []byte
	scratch huff0.Scratch
}

func (w *sectionWriter) put(section []byte) {
	for len(section) > 0 {
		n := min(len(section), blockBytes)
		w.block(section[:n])
		section = section[n:]
	}
}

// block stores a block in the shortest mode.
func (w *sectionWriter) block(b []byte) {
	mode, stored := modeRaw, b
	w.scratch.Reuse = huff0.ReusePolicyNone
	switch out, _, err := huff0.Compress4X(b, &w.scratch); {
	case len(b) == 1, errors.Is(err, huff0.ErrUseRLE):
		mode, stored = modeRepeat, b[:1]
	case err == nil && len(b) >= leastHuffman:
		mode, stored = modeHuffman, out
	}
	w.out = binary.LittleEndian.AppendUint32(w.out, uint32(mode|len(stored)<<modeBits))
	w.out = append(w.out, stored...)
}

// sectionReader takes sections off the front of in.
type sectionReader struct {
	in      []byte
	scratch huff0.Scratch
}

// next fills dst with the next section.
func (r *sectionReader) next(what string, dst []byte) error {
	for len(dst) > 0 {
		n := min(len(dst), blockBytes)
		if err := r.block(what, dst[:n:n]); err != nil {
			return err
		}
		dst = dst[n:]
	}
	return nil
}

func (r *sectionReader) block(what string, dst []byte) error {
	if len(r.in) < 4 {
		return broken(RuleSections, "%s: the chunk ends before the block", what)
	}
	field := binary.LittleEndian.Uint32(r.in)
	mode, n := field&(1<<modeBits-1), uint64(field>>modeBits)
	r.in = r.in[4:]
	if n > uint64(len(r.in)) {
		return broken(RuleSections, "%s: a block of %d bytes, %d are left in the chunk", what, n, len(r.in))
	}
	stored := r.in[:n]
	r.in = r.in[n:]
	switch {
	case mode == modeRaw && len(stored) == len(dst):
		copy(dst, stored)
	case mode == modeRepeat && len(stored) == 1:
		for i := range dst {
			dst[i] = stored[0]
		}
	case mode == modeHuffman && len(dst) >= leastHuffman:
		return r.huffman(what, dst, stored)
	default:
		return broken(RuleSections, "%s: %d stored bytes of mode %d for %d", what, n, mode, len(dst))
	}
	return nil
}

func (r *sectionReader) huffman(what string, dst, stored []byte) error {
	s, streams, err := huff0.ReadTable(stored, &r.scratch)
	if err == nil {
		// The capacity of dst tells the decoder how much there is.
		_, err = s.Decoder().Decompress4X(dst[:0:len(dst)], streams)
	}
	if err != nil {
		return broken(RuleSections, "%s: %v", what, err)
	}
	return nil
}

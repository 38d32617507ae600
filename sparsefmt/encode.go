package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Encode returns the blob of a matrix in the plain layout (SPEC.md, section
// 3). The bytes depend on the matrix alone. It refuses a matrix that is not
// valid with ErrUnsupported.
func Encode(m *Matrix) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	g, err := newGeometry(m.Coding, uint64(m.Rows), uint64(m.Cols), m.Group)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	e := encoder{m: m, g: g}
	return e.encode()
}

type encoder struct {
	m      *Matrix
	g      geometry
	halves []halves // by tile
}

func (e *encoder) encode() ([]byte, error) {
	g, total := &e.g, uint64(0)
	offsets := make([]uint64, g.tiles+1)
	offsets[0] = g.firstTile()
	e.halves = make([]halves, g.tiles)
	for t := range g.tiles {
		counts := e.counts(t)
		if g.nibbles {
			e.halves[t] = balance(counts)
		}
		low, high := e.halves[t].sum(counts)
		total += uint64(low + high)
		size := uint64(g.fixedBytes(g.tileRows(t)) + g.streamBytes(low, high))
		offsets[t+1] = alignUp(offsets[t] + size)
	}
	size := offsets[g.tiles] + TailPadding
	if size > MaxBlob {
		return nil, fmt.Errorf("%w: the blob of %v would have %d bytes, at most %d fit", ErrUnsupported, g, size, uint64(MaxBlob))
	}
	blob := make([]byte, size)
	putHeader(blob, g, LayoutPlain, total, size)
	for t, off := range offsets {
		binary.LittleEndian.PutUint32(blob[headerBytes+4*t:], uint32(off/tileAlign))
	}
	for t := range g.tiles {
		if g.nibbles {
			binary.LittleEndian.PutUint16(blob[g.halvesAt()+2*uint64(t):], uint16(e.halves[t]))
		}
		e.putTile(t, blob[offsets[t]:offsets[t+1]])
	}
	return blob, nil
}

// putHeader writes the header that blobs of all layouts begin with.
func putHeader(blob []byte, g *geometry, layout Layout, survivors, size uint64) {
	le := binary.LittleEndian
	copy(blob, blobMagic)
	blob[4] = uint8(layout)
	blob[5] = uint8(g.coding)
	le.PutUint16(blob[6:], uint16(g.group))
	le.PutUint32(blob[8:], uint32(g.cols))
	le.PutUint32(blob[12:], uint32(g.rows))
	le.PutUint64(blob[16:], survivors)
	le.PutUint64(blob[24:], size)
}

// counts returns the survivors of each row of tile t.
func (e *encoder) counts(t int) []int {
	counts := make([]int, e.g.tileRows(t))
	for r := range counts {
		for _, w := range e.m.rowMask(t*TileRows + r) {
			counts[r] += bits.OnesCount64(w)
		}
	}
	return counts
}

// putTile fills a tile; dst is zero and runs to the next tile.
func (e *encoder) putTile(t int, dst []byte) {
	g, n := &e.g, e.g.tileRows(t)
	masks := dst
	scales := masks[g.maskBytes(n):]
	zeros := scales[g.scaleBytes(n):]
	stream := zeros[g.zeroBytes(n):]
	var next [2]int // the planes' positions in stream; 16-bit values use the first
	for r := range n {
		i, slot := t*TileRows+r, g.slot(e.halves[t], r)
		for w, word := range e.m.rowMask(i) {
			binary.LittleEndian.PutUint64(masks[8*(slot*g.words+w):], word)
		}
		for k := range g.groups {
			binary.LittleEndian.PutUint16(scales[2*(slot*g.groups+k):], e.m.Scales[i*g.groups+k])
		}
		if g.zeros {
			for k := range g.groups {
				at := slot*g.groups + k
				zeros[at/2] |= e.m.Zeros[i*g.groups+k] << (4 * (at % 2))
			}
		}
		switch {
		case g.width == 2:
			next[0] = putValues(stream, next[0], e.m.rowMask(i), e.m.Values[i*g.cols:(i+1)*g.cols])
		case g.width == 1:
			next[0] = putBytes(stream, next[0], e.m.rowMask(i), e.m.Codes[i*g.cols:(i+1)*g.cols])
		case !e.halves[t].high(r):
			next[0] = putCodes(stream, next[0], 0, e.m.rowMask(i), e.m.Codes[i*g.cols:(i+1)*g.cols])
		default:
			next[1] = putCodes(stream, next[1], 4, e.m.rowMask(i), e.m.Codes[i*g.cols:(i+1)*g.cols])
		}
	}
}

// putCodes appends a row's survivors to a nibble plane and returns its new end.
func putCodes(stream []byte, at int, shift uint, mask []uint64, codes []uint8) int {
	for w, word := range mask {
		for ; word != 0; word &= word - 1 {
			stream[at] |= codes[w*maskBits+bits.TrailingZeros64(word)] << shift
			at++
		}
	}
	return at
}

// putBytes appends a row's 8-bit survivors.
func putBytes(stream []byte, at int, mask []uint64, codes []uint8) int {
	eachKept(mask, func(j int) {
		stream[at] = codes[j]
		at++
	})
	return at
}

// putValues appends a row's 16-bit survivors; at counts values.
func putValues(stream []byte, at int, mask []uint64, values []uint16) int {
	for w, word := range mask {
		for ; word != 0; word &= word - 1 {
			binary.LittleEndian.PutUint16(stream[2*at:], values[w*maskBits+bits.TrailingZeros64(word)])
			at++
		}
	}
	return at
}

package sparsefmt

import (
	"encoding/binary"

	"besa/internal/kernel"
)

// Reader gives random access to the rows of a plain blob, tile by tile. It keeps
// the blob and allocates nothing. A Reader may be used by many goroutines.
//
// NewReader checks the header and the tile offsets; the methods check every
// tile they touch before they use it.
type Reader struct {
	geometry
	blob      []byte
	survivors uint64
}

// NewReader checks the blob's header against the table row, and that the tile
// offsets stay in order within the blob (rules R6, R11, R12).
func NewReader(blob []byte, info TensorInfo) (*Reader, error) {
	g, err := info.geometry()
	if err != nil {
		return nil, err
	}
	if n := uint64(len(blob)); n != info.BlobBytes {
		return nil, broken(RuleBlobHeader, "%d bytes, the table says %d", n, info.BlobBytes)
	}
	if err := checkHeader(blob, info, LayoutPlain); err != nil {
		return nil, err
	}
	r := &Reader{geometry: g, blob: blob, survivors: info.Survivors}
	if err := r.checkOffsets(); err != nil {
		return nil, err
	}
	return r, nil
}

// checkHeader compares a blob's header, the first bytes of start, with the
// table row.
func checkHeader(start []byte, info TensorInfo, layout Layout) error {
	h, err := parseHeader(start, layout)
	if err != nil {
		return err
	}
	want := header{info.Coding, info.Group, info.Rows(), info.Cols(), info.Survivors, info.BlobBytes}
	if h != want {
		return broken(RuleBlobHeader, "the header says %+v, the table %+v", h, want)
	}
	return nil
}

// header is a blob's header as stored.
type header struct {
	coding     Coding
	group      int
	rows, cols uint64
	survivors  uint64
	bytes      uint64
}

// parseHeader reads the header at the start of a blob of the given layout.
func parseHeader(start []byte, layout Layout) (header, error) {
	if len(start) < headerBytes {
		return header{}, broken(RuleBlobHeader, "%d bytes, a header has %d", len(start), headerBytes)
	}
	le := binary.LittleEndian
	if string(start[:4]) != blobMagic {
		return header{}, broken(RuleBlobHeader, "the magic is %q, want %q", start[:4], blobMagic)
	}
	if start[4] != uint8(layout) {
		return header{}, broken(RuleBlobHeader, "the layout byte is %d, want %d", start[4], layout)
	}
	return header{
		coding:    Coding(start[5]),
		group:     int(le.Uint16(start[6:])),
		cols:      uint64(le.Uint32(start[8:])),
		rows:      uint64(le.Uint32(start[12:])),
		survivors: le.Uint64(start[16:]),
		bytes:     le.Uint64(start[24:]),
	}, nil
}

// checkOffsets checks the tile table as far as that goes without the masks.
func (r *Reader) checkOffsets() error {
	if least := r.leastBlob(); uint64(len(r.blob)) < least {
		return broken(RuleTileOffsets, "%d bytes, %v needs at least %d", len(r.blob), &r.geometry, least)
	}
	if first := r.offset(0); first != r.firstTile() {
		return broken(RuleTileOffsets, "the first tile is at %d, want %d", first, r.firstTile())
	}
	for t := range r.tiles {
		// leastBlob fits in memory, so the size of a tile is an int.
		if n, h := r.tileRows(t), r.halves(t); r.nibbles && !h.valid(n) {
			return broken(RuleTileOffsets, "tile %d of %d rows: halves %#04x", t, n, uint16(h))
		}
		if a, b := r.offset(t), r.offset(t+1); b < a || b-a < alignUp(uint64(r.fixedBytes(r.tileRows(t)))) {
			return broken(RuleTileOffsets, "tile %d runs from %d to %d, too short for its masks", t, a, b)
		}
	}
	if end := r.offset(r.tiles); end+TailPadding != uint64(len(r.blob)) {
		return broken(RuleTileOffsets, "the tiles end at %d, want %d bytes before the end at %d", end, TailPadding, len(r.blob))
	}
	return nil
}

// offset is where tile t starts; offset(tiles) is where the last one ends.
func (r *Reader) offset(t int) uint64 {
	return tileAlign * uint64(binary.LittleEndian.Uint32(r.blob[headerBytes+4*t:]))
}

// halves is how tile t is divided.
func (r *Reader) halves(t int) halves {
	if !r.nibbles {
		return 0
	}
	return halves(binary.LittleEndian.Uint16(r.blob[r.halvesAt()+2*uint64(t):]))
}

// tile is a checked view of one tile.
type tile struct {
	rows   int
	halves halves
	masks  []byte // rows × words × 8, in slot order
	scales []byte // rows × groups × 2, in slot order
	zeros  []byte // rows × groups × 4 bits, in slot order
	// stream runs to the end of the blob, so that 64 bytes can be loaded
	// from any survivor; only the first length bytes are this tile's.
	stream []byte
	length int
	count  [TileRows]int // survivors by row
	at     [TileRows]int // and how many are before them in their half
}

// tile checks that the masks of tile t account for its length (rules R13, R14).
func (r *Reader) tile(t int) (tile, error) {
	n := r.tileRows(t)
	start, end := r.offset(t), r.offset(t+1)
	b := r.blob[start:]
	v := tile{rows: n, halves: r.halves(t)}
	v.masks, b = b[:r.maskBytes(n)], b[r.maskBytes(n):]
	v.scales, b = b[:r.scaleBytes(n)], b[r.scaleBytes(n):]
	v.zeros, b = b[:r.zeroBytes(n)], b[r.zeroBytes(n):]
	v.stream = b
	tail := tailMask(r.cols)
	var length [2]int // of the halves
	for i := range n {
		mask := r.rowMask(&v, i)
		if last := binary.LittleEndian.Uint64(mask[len(mask)-8:]); last&tail != 0 {
			return tile{}, broken(RuleMaskTail, "row %d: the last mask word is %#x", t*TileRows+i, last)
		}
		half := &length[v.halves>>i&1]
		v.count[i], v.at[i] = kernel.Survivors(mask), *half
		*half += v.count[i]
	}
	v.length = r.streamBytes(length[0], length[1])
	if want := alignUp(start + uint64(r.fixedBytes(n)+v.length)); want != end {
		return tile{}, broken(RuleTileLength, "tile %d ends at %d, its masks say %d", t, end, want)
	}
	return v, nil
}

// rowMask returns the mask words of row i of a tile.
func (r *Reader) rowMask(v *tile, i int) []byte {
	size := 8 * r.words
	at := r.slot(v.halves, i) * size
	return v.masks[at : at+size]
}

// group returns scale k of row i of a tile, and its zero code where the
// coding has one.
func (r *Reader) group(v *tile, i, k int) (scale uint16, zero uint8) {
	at := r.slot(v.halves, i)*r.groups + k
	scale = binary.LittleEndian.Uint16(v.scales[2*at:])
	if len(v.zeros) != 0 {
		zero = v.zeros[at/2] >> (4 * (at % 2)) & 15
	}
	return scale, zero
}

// rowScales returns the scales of row i of a tile, as stored.
func (r *Reader) rowScales(v *tile, i int) []byte {
	size := 2 * r.groups
	at := r.slot(v.halves, i) * size
	return v.scales[at : at+size]
}

package sparsefmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

// Packed gives access to the rows of a blob in the packed layout, chunk by
// chunk. It keeps the blob and may be used by many goroutines.
//
// A chunk stands for the tiles of some consecutive rows: decoded, it is a
// plain blob of these rows, and is checked and expanded as one.
type Packed struct {
	geometry
	blob       []byte
	info       TensorInfo
	chunkTiles int
	chunks     []span // of the blob
}

type span struct{ start, end uint64 }

// packedHeader is the size of a packed blob's header: that of a plain one,
// and tiles per chunk and a reserved u32. sumBytes and sizeBytes are the
// entries of the chunk tables after it.
const (
	packedHeader = headerBytes + 8
	sumBytes     = 8
	sizeBytes    = 4
)

// NewPacked checks a packed blob's header against the table row, and its
// chunk table (rules R6, R11, R21).
func NewPacked(blob []byte, info TensorInfo) (*Packed, error) {
	g, err := info.geometry()
	if err != nil {
		return nil, err
	}
	if n := uint64(len(blob)); n != info.BlobBytes {
		return nil, broken(RuleBlobHeader, "%d bytes, the table says %d", n, info.BlobBytes)
	}
	if err := checkHeader(blob, info, LayoutPacked); err != nil {
		return nil, err
	}
	p := &Packed{geometry: g, blob: blob, info: info}
	return p, p.readChunks()
}

// readChunks checks the chunk table (rule R21).
func (p *Packed) readChunks() error {
	n := uint64(len(p.blob))
	if n < packedHeader {
		return broken(RuleChunkTable, "%d bytes, the header has %d", n, packedHeader)
	}
	tiles := uint64(binary.LittleEndian.Uint32(p.blob[headerBytes:]))
	if unused := binary.LittleEndian.Uint32(p.blob[headerBytes+4:]); unused != 0 {
		return broken(RuleChunkTable, "the reserved field is %#x", unused)
	}
	if most := maxChunkTiles(p.cols); tiles == 0 || tiles > most {
		return broken(RuleChunkTable, "%d tiles per chunk: must be 1 to %d for %d columns", tiles, most, p.cols)
	}
	count := (uint64(p.tiles) + tiles - 1) / tiles
	at := packedHeader + count*(sumBytes+sizeBytes)
	if at > n {
		return broken(RuleChunkTable, "%d bytes, the table of %d chunks ends at %d", n, count, at)
	}
	p.chunkTiles = int(tiles)
	p.chunks = make([]span, count)
	for k := range p.chunks {
		size := uint64(binary.LittleEndian.Uint32(p.blob[packedHeader+sumBytes*int(count)+sizeBytes*k:]))
		p.chunks[k] = span{at, at + size}
		at += size
	}
	if at != n {
		return broken(RuleChunkTable, "the chunks end at %d, the blob at %d", at, n)
	}
	return nil
}

// maxChunkTiles is the largest number of tiles in a chunk: it bounds what a
// few bytes can make a reader allocate. It is 0 where rows are too long for
// the packed layout.
func maxChunkTiles(cols int) uint64 { return MaxChunk / (TileRows * uint64(cols)) }

// chunkGeometry is that of the rows in chunk k.
func (p *Packed) chunkGeometry(k int) geometry {
	g := p.geometry
	g.tiles = min(p.chunkTiles, p.tiles-k*p.chunkTiles)
	g.rows = min(g.tiles*TileRows, p.rows-k*p.RowStep())
	return g
}

// Rows is the number of rows.
func (p *Packed) Rows() int { return p.rows }

// RowBytes is the size of a row in the type the blob expands to.
func (p *Packed) RowBytes() int { return expandedRowBytes(p.coding, p.cols) }

// RowStep is the number of rows in a chunk: see RowExpander.
func (p *Packed) RowStep() int { return p.chunkTiles * TileRows }

// ExpandRows writes rows r0 to r1-1 in the type the blob expands to: see
// RowExpander. The checksum of every chunk that it touches is compared.
func (p *Packed) ExpandRows(r0, r1 int, dst []byte) error {
	size := p.RowBytes()
	if err := checkRange(r0, r1, p.rows, size, len(dst)); err != nil {
		return err
	}
	for r0 < r1 {
		k := r0 / p.RowStep()
		first := k * p.RowStep()
		end := min(r1, first+p.RowStep())
		n := (end - r0) * size
		err := p.withChunk(k, func(r *Reader) error {
			return r.ExpandRows(r0-first, end-first, dst[:n])
		})
		if err != nil {
			return err
		}
		r0, dst = end, dst[n:]
	}
	return nil
}

// withChunk calls f with the plain blob of chunk k, which is gone afterwards.
func (p *Packed) withChunk(k int, f func(r *Reader) error) error {
	d := takeDecoder(p, k)
	defer d.giveBack()
	if d.reader == nil {
		if err := p.decodeChunk(d, k); err != nil {
			return inChunk(k, err)
		}
	}
	return inChunk(k, f(d.reader))
}

// decodeChunk fills d with chunk k.
func (p *Packed) decodeChunk(d *chunkDecoder, k int) error {
	stored := p.blob[p.chunks[k].start:p.chunks[k].end]
	want := binary.LittleEndian.Uint64(p.blob[packedHeader+sumBytes*k:])
	if sum := xxh3.Hash(stored); sum != want {
		return mismatch(RuleChunkSum, sum, want)
	}
	r, err := d.decode(p.chunkGeometry(k), stored)
	if err == nil {
		d.reader = r
	}
	return err
}

// inChunk says which chunk the detail of an error is about.
func inChunk(k int, err error) error {
	if re, ok := errors.AsType[*RuleError](err); ok {
		c := *re
		c.Detail = fmt.Sprintf("chunk %d: %s", k, re.Detail)
		return &c
	}
	return err
}

// Check verifies every rule about the inside of a blob: R12 to R18 of every
// chunk's tiles and R22 to R24.
func (p *Packed) Check() error {
	total := uint64(0)
	for k := range p.chunks {
		err := p.withChunk(k, func(r *Reader) error {
			total += r.survivors
			return r.Check()
		})
		if err != nil {
			return err
		}
	}
	if total != p.info.Survivors {
		return broken(RuleSurvivors, "the masks hold %d survivors, the header says %d", total, p.info.Survivors)
	}
	return nil
}

// A chunk of equal bytes is next to nothing when it is packed: a few bytes of a
// file can stand for tens of thousands. Plain stops at plainGrowth times the
// packed blob's bytes where that is more than plainFree: what real weights make
// is about as large in both layouts.
const (
	plainGrowth = 1024
	plainFree   = 64 << 20
)

// Plain returns the blob in the plain layout and its table row, whose
// checksum is that of the new blob. The memory it takes is bounded by the
// blob's size: it refuses, with ErrUnsupported, what is beyond that.
func (p *Packed) Plain() ([]byte, TensorInfo, error) {
	most := max(plainFree, plainGrowth*uint64(len(p.blob)))
	var size atomic.Uint64
	size.Store(p.firstTile() + TailPadding)
	grow := func(by uint64) error {
		if n := size.Add(by); n > most {
			return fmt.Errorf("%w: the packed blob of %d bytes is more than %d bytes in the plain layout: expand the file instead", ErrUnsupported, len(p.blob), most)
		}
		return nil
	}
	if err := grow(0); err != nil {
		return nil, TensorInfo{}, err
	}
	parts := make([]*plainChunk, len(p.chunks))
	err := parallel(len(parts), func(k int) error {
		return p.withChunk(k, func(r *Reader) error {
			if err := grow(r.offset(r.tiles) - r.firstTile()); err != nil {
				return err
			}
			parts[k] = copyChunk(r)
			return nil
		})
	})
	if err != nil {
		return nil, TensorInfo{}, err
	}
	blob, err := joinChunks(p.geometry, parts, p.info.Survivors)
	if err != nil {
		return nil, TensorInfo{}, err
	}
	info := p.info
	info.Layout, info.BlobBytes, info.BlobSum = LayoutPlain, uint64(len(blob)), xxh3.Hash(blob)
	return blob, info, nil
}

// plainChunk is what a whole plain blob takes from that of a chunk.
type plainChunk struct {
	sizes  []uint64 // of the tiles
	halves []byte
	tiles  []byte
}

func copyChunk(r *Reader) *plainChunk {
	c := &plainChunk{}
	for t := range r.tiles {
		c.sizes = append(c.sizes, r.offset(t+1)-r.offset(t))
	}
	if r.nibbles {
		c.halves = append(c.halves, r.blob[r.halvesAt():r.tablesEnd()]...)
	}
	c.tiles = append(c.tiles, r.blob[r.firstTile():r.offset(r.tiles)]...)
	return c
}

func joinChunks(g geometry, parts []*plainChunk, survivors uint64) ([]byte, error) {
	size := g.firstTile() + TailPadding
	for _, c := range parts {
		size += uint64(len(c.tiles))
	}
	if size > MaxBlob {
		return nil, fmt.Errorf("%w: the plain blob of %v would have %d bytes, at most %d fit", ErrUnsupported, &g, size, uint64(MaxBlob))
	}
	blob := make([]byte, size)
	putHeader(blob, &g, LayoutPlain, survivors, size)
	at, offset, tile := g.halvesAt(), g.firstTile(), 0
	for _, c := range parts {
		at += uint64(copy(blob[at:], c.halves))
		copy(blob[offset:], c.tiles)
		for _, n := range c.sizes {
			binary.LittleEndian.PutUint32(blob[headerBytes+4*tile:], uint32(offset/tileAlign))
			offset += n
			tile++
		}
	}
	binary.LittleEndian.PutUint32(blob[headerBytes+4*tile:], uint32(offset/tileAlign))
	return blob, nil
}

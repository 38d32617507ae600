package sparsefmt

import (
	"fmt"
	"math/bits"
)

// geometry is everything about a blob's layout that follows from its header:
// only the lengths of the survivor streams depend on the masks.
type geometry struct {
	coding     Coding
	nibbles    bool // 4-bit codes in two planes
	zeros      bool // zero codes
	width      int  // bytes of a survivor that is no nibble
	rows, cols int
	group      int
	words      int // mask words per row
	groups     int // scales per row, 0 for unscaled codings
	tiles      int
}

// newGeometry checks the shape; rows and cols may come from a file.
func newGeometry(c Coding, rows, cols uint64, group int) (geometry, error) {
	if err := checkShape(c, rows, cols, group); err != nil {
		return geometry{}, err
	}
	s := c.spec()
	g := geometry{coding: c, nibbles: s.nibbles, zeros: s.zeros, width: s.bytes, rows: int(rows), cols: int(cols), group: group}
	g.words = ceilDiv(g.cols, maskBits)
	if s.scaled {
		g.groups = ceilDiv(g.cols, group)
	}
	g.tiles = ceilDiv(g.rows, TileRows)
	return g, nil
}

// tileRows is the number of rows in tile t.
func (g *geometry) tileRows(t int) int {
	return min(TileRows, g.rows-t*TileRows)
}

// slot is the position of row r of a tile in its mask, scale and zero
// sections. 4-bit tiles interleave the halves, because kernels run their two
// nibble planes side by side.
func (g *geometry) slot(h halves, r int) int {
	if !g.nibbles {
		return r
	}
	below := bits.OnesCount16(uint16(h) & (1<<r - 1))
	if h.high(r) {
		return 2*below + 1
	}
	return 2 * (r - below)
}

// Section sizes of a tile of n rows, in the order they are stored.
func (g *geometry) maskBytes(n int) int  { return 8 * g.words * n }
func (g *geometry) scaleBytes(n int) int { return 2 * g.groups * n }
func (g *geometry) zeroBytes(n int) int {
	if !g.zeros {
		return 0
	}
	return (g.groups*n + 1) / 2
}

// fixedBytes is the size of a tile of n rows without its stream.
func (g *geometry) fixedBytes(n int) int {
	return g.maskBytes(n) + g.scaleBytes(n) + g.zeroBytes(n)
}

// streamBytes is the length of the survivor stream of a tile whose low and
// high halves hold that many survivors.
func (g *geometry) streamBytes(low, high int) int {
	if !g.nibbles {
		return g.width * (low + high)
	}
	return max(low, high)
}

// halvesAt is where the halves of the tiles are, after the tile offsets.
func (g *geometry) halvesAt() uint64 { return headerBytes + 4*(uint64(g.tiles)+1) }

// tablesEnd is where the halves, or else the tile offsets, end.
func (g *geometry) tablesEnd() uint64 {
	if !g.nibbles {
		return g.halvesAt()
	}
	return g.halvesAt() + 2*uint64(g.tiles)
}

// firstTile is where the tiles begin.
func (g *geometry) firstTile() uint64 { return alignUp(g.tablesEnd()) }

// leastBlob is the size of a blob of this geometry without survivors, in 64
// bits because a hostile header may ask for more than memory.
func (g *geometry) leastBlob() uint64 {
	// Products stay below 2^60: MaxDim rows × MaxDim/64 words × 8 bytes.
	tile := func(n int) uint64 {
		r, w, k := uint64(n), uint64(g.words), uint64(g.groups)
		t := 8*w*r + 2*k*r
		if g.zeros {
			t += (k*r + 1) / 2
		}
		return alignUp(t)
	}
	return g.firstTile() + TailPadding + uint64(g.tiles-1)*tile(TileRows) + tile(g.tileRows(g.tiles-1))
}

func alignUp(n uint64) uint64 { return (n + tileAlign - 1) &^ (tileAlign - 1) }

func (g *geometry) String() string {
	s := fmt.Sprintf("%d×%d %v", g.rows, g.cols, g.coding)
	if g.group != 0 {
		s += fmt.Sprintf(" group %d", g.group)
	}
	return s
}

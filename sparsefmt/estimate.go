package sparsefmt

import "fmt"

// EstimateBytes returns about how many bytes of the plain layout a rows × cols
// matrix takes with so many survivors, spread evenly over the rows, and what
// else it would be: ordinary blocks where those are not larger. Only the rows'
// differences in survivors are not known beforehand; the 4-bit codings pay for
// them with a per mille or so. ErrUnsupported: the format has no such matrix.
func EstimateBytes(c Coding, rows, cols uint64, group int, survivors uint64) (uint64, error) {
	g, err := newGeometry(c, rows, cols, group)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	size := g.firstTile() + TailPadding
	for t := range g.tiles {
		n := g.tileRows(t)
		stream := (survivors*uint64(n) + rows - 1) / rows * uint64(g.width)
		if g.nibbles {
			stream = (survivors*uint64(n)/rows + 1) / 2
		}
		size += alignUp(uint64(g.fixedBytes(n)) + stream)
	}
	if size > MaxBlob {
		return 0, fmt.Errorf("%w: the blob of %v would have %d bytes, at most %d fit", ErrUnsupported, &g, size, uint64(MaxBlob))
	}
	return min(size, rows*uint64(expandedRowBytes(c, int(cols)))), nil
}

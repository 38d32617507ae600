package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"
)

// chunkWeights is about how many weights a writer puts into a chunk: enough
// that code tables do not count, few enough that one is decoded in a
// millisecond.
const chunkWeights = 1 << 20

// Pack converts a plain blob into the packed layout and returns its table
// row. The bytes depend on the blob alone. The blob must be valid, which is
// checked; ErrUnsupported where rows are too long for the packed layout.
func Pack(blob []byte, info TensorInfo) ([]byte, TensorInfo, error) {
	return packChunks(blob, info, chunkWeights)
}

// packChunks is Pack with another number of weights in a chunk.
func packChunks(blob []byte, info TensorInfo, weights int) ([]byte, TensorInfo, error) {
	r, err := NewReader(blob, info)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return nil, TensorInfo{}, inTensor(info.Name, err)
	}
	most := maxChunkTiles(r.cols)
	if most == 0 {
		return nil, TensorInfo{}, fmt.Errorf("tensor %q: %w: the packed layout has at most %d columns, not %d",
			info.Name, ErrUnsupported, MaxChunk/TileRows, r.cols)
	}
	tiles := min(r.tiles, max(1, weights/(TileRows*r.cols)))
	tiles = ceilDiv(r.tiles, ceilDiv(r.tiles, tiles)) // chunks of equal height
	chunks := make([][]byte, ceilDiv(r.tiles, tiles))
	err = parallel(len(chunks), func(k int) error {
		c, err := r.collect(k*tiles, min((k+1)*tiles, r.tiles))
		if err == nil {
			chunks[k] = c.encode()
		}
		return err
	})
	if err != nil {
		return nil, TensorInfo{}, inTensor(info.Name, err)
	}
	packed := joinPacked(&r.geometry, tiles, chunks, info.Survivors)
	info.Layout, info.BlobBytes, info.BlobSum = LayoutPacked, uint64(len(packed)), xxh3.Hash(packed)
	return packed, info, nil
}

// joinPacked puts a packed blob together.
func joinPacked(g *geometry, tiles int, chunks [][]byte, survivors uint64) []byte {
	le := binary.LittleEndian
	out := make([]byte, headerBytes)
	out = le.AppendUint32(out, uint32(tiles))
	out = le.AppendUint32(out, 0)
	for _, c := range chunks {
		out = le.AppendUint64(out, xxh3.Hash(c))
	}
	for _, c := range chunks {
		out = le.AppendUint32(out, uint32(len(c)))
	}
	for _, c := range chunks {
		out = append(out, c...)
	}
	putHeader(out, g, LayoutPacked, survivors, uint64(len(out)))
	return out
}

// plainSections are the contents of consecutive tiles, section by section.
type plainSections struct {
	geometry                             // of these tiles
	halves, masks, scales, zeros, stream []byte
}

// collect gathers the tiles t0 to t1-1.
func (r *Reader) collect(t0, t1 int) (*plainSections, error) {
	c := &plainSections{geometry: r.geometry}
	c.tiles = t1 - t0
	c.rows = min(c.tiles*TileRows, r.rows-t0*TileRows)
	if r.nibbles {
		c.halves = r.blob[r.halvesAt()+2*uint64(t0) : r.halvesAt()+2*uint64(t1)]
	}
	for t := t0; t < t1; t++ {
		v, err := r.tile(t)
		if err != nil {
			return nil, err
		}
		c.masks = append(c.masks, v.masks...)
		c.scales = append(c.scales, v.scales...)
		c.zeros = append(c.zeros, v.zeros...)
		c.stream = append(c.stream, v.stream[:v.length]...)
	}
	return c, nil
}

// encode returns the stored chunk.
func (c *plainSections) encode() []byte {
	var w sectionWriter
	w.put(c.halves)
	c.putMasks(&w)
	putPlanes(&w, c.scales, 2)
	w.put(c.zeros)
	putPlanes(&w, c.stream, max(c.width, 1))
	return w.out
}

// putPlanes is the inverse of readPlanes.
func putPlanes(w *sectionWriter, data []byte, width int) {
	plane := make([]byte, len(data)/width)
	for i := range width {
		for k := range plane {
			plane[k] = data[width*k+i]
		}
		w.put(plane)
	}
}

// putMasks stores classes and masks with the number of classes that takes the
// least space: more of them follow the columns' densities better, but every
// one has a code table.
func (c *plainSections) putMasks(w *sectionWriter) {
	strips, width := c.strips(), c.words*maskBits
	columns := make([]byte, strips*width)
	c.eachStrip(c.masks, func(strip int, rows []byte) {
		toColumns(rows, c.words, columns[strip*width:])
	})
	density := make([]int, c.cols)
	for s := range strips {
		for j, b := range columns[s*width:][:c.cols] {
			density[j] += ones8[b]
		}
	}
	var best []byte
	for _, n := range []int{1, 4, 8} {
		var try sectionWriter
		classes := classify(density, n)
		try.put(classes)
		order, ends := byClass(classes)
		start := 0
		for _, end := range ends {
			members := order[start:end]
			symbols := make([]byte, 0, strips*len(members))
			for s := range strips {
				for _, j := range members {
					symbols = append(symbols, columns[s*width+int(j)])
				}
			}
			try.put(symbols)
			start = end
		}
		if best == nil || len(try.out) < len(best) {
			best = try.out
		}
	}
	w.out = append(w.out, best...)
}

// classify sorts columns into n classes of about equal size by density.
func classify(density []int, n int) []byte {
	order := make([]int, len(density))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int { return density[a] - density[b] })
	classes := make([]byte, len(density))
	for k, j := range order {
		classes[j] = byte(k * n / len(order))
	}
	return classes
}

var ones8 = func() (t [256]int) {
	for b := range t {
		t[b] = t[b/2] + b%2
	}
	return t
}()

package sparsefmt

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"

	"besa/internal/kernel"
)

// chunkDecoder turns stored chunks into plain blobs. Its buffers are reused,
// the blob too.
type chunkDecoder struct {
	of      *Packed // what reader is a chunk of
	chunk   int
	reader  *Reader // nil where nothing has been decoded
	section sectionReader
	classes []byte
	symbols []byte // of one class, later one half of the scales or values
	columns []byte // a byte per strip and column, whole words
	masks   []byte // the mask sections of all tiles
	scales  []byte
	zeros   []byte
	stream  []byte
	halves  []byte
	blob    []byte
}

// idleDecoders are the decoders not in use, least recently used first. They
// keep what they decoded last, so that small reads in order do not decode a
// chunk again and again.
var idleDecoders struct {
	sync.Mutex
	list []*chunkDecoder
}

// takeDecoder returns a decoder that has chunk k of p, or an empty one.
func takeDecoder(p *Packed, k int) *chunkDecoder {
	idle := &idleDecoders
	idle.Lock()
	defer idle.Unlock()
	i := slices.IndexFunc(idle.list, func(d *chunkDecoder) bool { return d.reader != nil && d.of == p && d.chunk == k })
	if i < 0 && len(idle.list) < 2*runtime.GOMAXPROCS(0) {
		return &chunkDecoder{of: p, chunk: k}
	}
	i = max(i, 0)
	d := idle.list[i]
	idle.list = slices.Delete(idle.list, i, i+1)
	if d.of != p || d.chunk != k {
		d.of, d.chunk, d.reader = p, k, nil
	}
	return d
}

// giveBack makes d available to others.
func (d *chunkDecoder) giveBack() {
	idle := &idleDecoders
	idle.Lock()
	defer idle.Unlock()
	if len(idle.list) < 2*runtime.GOMAXPROCS(0) {
		idle.list = append(idle.list, d)
	}
}

// ReleaseBuffers frees what reading packed blobs keeps ready for more of it, a
// few megabytes.
func ReleaseBuffers() {
	idleDecoders.Lock()
	defer idleDecoders.Unlock()
	idleDecoders.list = nil
}

// resize returns b with n bytes of any contents.
func resize(b *[]byte, n int) []byte {
	*b = slices.Grow((*b)[:0], n)[:n]
	return *b
}

// decode returns a reader of the chunk's plain blob. What it has not checked,
// rules R12 to R18, Reader checks like that of any plain blob.
func (d *chunkDecoder) decode(g geometry, stored []byte) (*Reader, error) {
	d.section.in = stored
	if err := d.readMasks(&g); err != nil {
		return nil, err
	}
	lengths, survivors := d.streamLengths(&g)
	if err := d.readRest(&g, lengths); err != nil {
		return nil, err
	}
	if n := len(d.section.in); n != 0 {
		return nil, broken(RuleSections, "%d bytes are left after the last section", n)
	}
	d.assemble(&g, lengths, survivors)
	r := &Reader{geometry: g, blob: d.blob, survivors: survivors}
	return r, r.checkOffsets()
}

// readMasks decodes halves, classes and masks (rule R24).
func (d *chunkDecoder) readMasks(g *geometry) error {
	n := 0
	if g.nibbles {
		n = 2 * g.tiles
	}
	if err := d.section.next("halves", resize(&d.halves, n)); err != nil {
		return err
	}
	classes := resize(&d.classes, g.cols)
	if err := d.section.next("classes", classes); err != nil {
		return err
	}
	for j, c := range classes {
		if c >= maxClasses {
			return broken(RuleClasses, "column %d: class %d: must be below %d", j, c, maxClasses)
		}
	}
	strips, width := g.strips(), g.words*maskBits
	columns := resize(&d.columns, strips*width)
	for s := range strips { // columns that the last word has and the matrix has not
		clear(columns[s*width+g.cols : (s+1)*width])
	}
	order, ends := byClass(classes)
	start := 0
	for _, end := range ends {
		members := order[start:end]
		symbols := resize(&d.symbols, strips*len(members))
		if err := d.section.next("masks", symbols); err != nil {
			return err
		}
		for s := range strips {
			row := columns[s*width:][:g.cols]
			for k, b := range symbols[s*len(members):][:len(members)] {
				row[members[k]] = b
			}
		}
		start = end
	}
	var beyond uint64
	g.eachStrip(resize(&d.masks, g.maskBytes(g.rows)), func(strip int, rows []byte) {
		beyond |= toRows(columns[strip*width:], g.words, rows)
	})
	if beyond != 0 {
		return broken(RuleClasses, "mask bits beyond the last row are set")
	}
	return nil
}

// streamLengths returns the lengths of the tiles' streams, which follow from
// the masks, and the number of survivors.
func (d *chunkDecoder) streamLengths(g *geometry) (lengths []int, survivors uint64) {
	lengths = make([]int, g.tiles)
	masks, size := d.masks, 8*g.words
	for t := range lengths {
		var half [2]int // even slots hold the low half
		for slot := range g.tileRows(t) {
			half[slot%2] += kernel.Survivors(masks[:size])
			masks = masks[size:]
		}
		lengths[t] = g.streamBytes(half[0], half[1])
		survivors += uint64(half[0] + half[1])
	}
	return lengths, survivors
}

// readRest decodes scales, zero codes and survivors.
func (d *chunkDecoder) readRest(g *geometry, lengths []int) error {
	if err := d.readPlanes("scales", resize(&d.scales, g.scaleBytes(g.rows)), 2); err != nil {
		return err
	}
	zeros, stream := 0, 0
	for t, n := range lengths {
		zeros += g.zeroBytes(g.tileRows(t))
		stream += n
	}
	if err := d.section.next("zeros", resize(&d.zeros, zeros)); err != nil {
		return err
	}
	return d.readPlanes("survivors", resize(&d.stream, stream), max(g.width, 1))
}

// readPlanes decodes numbers of some bytes, stored as a section of all their
// first bytes, one of all their second bytes, and so on.
func (d *chunkDecoder) readPlanes(what string, dst []byte, width int) error {
	if width == 1 {
		return d.section.next(what, dst)
	}
	for i := range width {
		plane := resize(&d.symbols, len(dst)/width)
		if err := d.section.next(what, plane); err != nil {
			return err
		}
		for k, b := range plane {
			dst[width*k+i] = b
		}
	}
	return nil
}

// assemble builds the plain blob of the chunk's rows.
func (d *chunkDecoder) assemble(g *geometry, lengths []int, survivors uint64) {
	size := g.firstTile()
	for t, n := range lengths {
		size += alignUp(uint64(g.fixedBytes(g.tileRows(t)) + n))
	}
	size += TailPadding
	blob := resize(&d.blob, int(size))
	putHeader(blob, g, LayoutPlain, survivors, size)
	copy(blob[g.halvesAt():], d.halves)
	clear(blob[g.tablesEnd():g.firstTile()])
	masks, scales, zeros, stream := d.masks, d.scales, d.zeros, d.stream
	at := g.firstTile()
	take := func(from *[]byte, n int) {
		at += uint64(copy(blob[at:], (*from)[:n]))
		*from = (*from)[n:]
	}
	for t, n := range lengths {
		binary.LittleEndian.PutUint32(blob[headerBytes+4*t:], uint32(at/tileAlign))
		rows := g.tileRows(t)
		take(&masks, g.maskBytes(rows))
		take(&scales, g.scaleBytes(rows))
		take(&zeros, g.zeroBytes(rows))
		take(&stream, n)
		end := alignUp(at)
		clear(blob[at:end])
		at = end
	}
	binary.LittleEndian.PutUint32(blob[headerBytes+4*g.tiles:], uint32(at/tileAlign))
	clear(blob[at:])
}

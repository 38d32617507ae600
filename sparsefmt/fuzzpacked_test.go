package sparsefmt

import (
	"bytes"
	"testing"

	"github.com/zeebo/xxh3"
)

// FuzzPacked feeds packed blobs whose checksums and sizes are put right. Laws:
// no panic; what passes Check expands, and unpacks to a valid plain blob that
// expands to the same bytes and, packed and unpacked again, comes back.
func FuzzPacked(f *testing.F) {
	s := surgeryOn(f, packedVectorFile)
	for _, name := range prunedNames {
		f.Add(s.blob(name))
	}
	for _, c := range append(chunkTableCases, chunkCases...) {
		if c.change != nil {
			s := c.surgery(f)
			c.change(s)
			f.Add(s.blob(symName))
		}
	}
	for _, c := range Codings() {
		m := &Matrix{Rows: 37, Cols: 96, Coding: c}
		if c.Quantised() {
			m.Group = 32
		}
		fillMatrix(m, 9, func(row int) float64 { return float64(row) / 37 })
		f.Add(inChunks(f, m, 1))
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		blob = bytes.Clone(blob)
		info, ok := repair(blob)
		if !ok {
			return
		}
		p, err := NewPacked(blob, info)
		if err != nil {
			mustBeRule(t, err)
			return
		}
		// Reading must be safe whether or not Check passes.
		expanded := make([]byte, p.Rows()*p.RowBytes())
		expandErr := p.ExpandRows(0, p.Rows(), expanded)
		if err := p.Check(); err != nil {
			mustBeRule(t, err)
			return
		}
		if expandErr != nil {
			t.Fatalf("a valid blob does not expand: %v", expandErr)
		}
		plain, plainInfo, err := p.Plain()
		if err != nil {
			t.Fatalf("a valid blob does not unpack: %v", err)
		}
		m, err := Decode(plain, plainInfo)
		if err != nil {
			t.Fatalf("a valid blob unpacks to one that is not: %v", err)
		}
		if !bytes.Equal(expanded, expandAll(t, m)) {
			t.Fatal("the layouts expand differently")
		}
		again, againInfo, err := Pack(plain, plainInfo)
		if err != nil {
			t.Fatalf("what was unpacked does not pack: %v", err)
		}
		checkPacked(t, plain, plainInfo, again, againInfo)
	})
}

// inChunks packs m with so many tiles in a chunk, instead of what Pack finds
// best: small blobs get several chunks.
func inChunks(t testing.TB, m *Matrix, tiles int) []byte {
	t.Helper()
	var sums, sizes, chunks []byte
	for r := 0; r < m.Rows; r += tiles * TileRows {
		_, _, packed, _ := packMatrix(t, rowsOf(m, r, min(m.Rows, r+tiles*TileRows)))
		chunk := packed[packedHeader+sumBytes+sizeBytes:]
		sums = le.AppendUint64(sums, xxh3.Hash(chunk))
		sizes = le.AppendUint32(sizes, uint32(len(chunk)))
		chunks = append(chunks, chunk...)
	}
	_, _, whole, _ := packMatrix(t, m)
	header := bytes.Clone(whole[:packedHeader])
	le.PutUint32(header[headerBytes:], uint32(tiles))
	blob := bytes.Join([][]byte{header, sums, sizes, chunks}, nil)
	le.PutUint64(blob[24:], uint64(len(blob)))
	return blob
}

// rowsOf is rows r0 to r1-1 of m.
func rowsOf(m *Matrix, r0, r1 int) *Matrix {
	words, groups := ceilDiv(m.Cols, maskBits), 0
	if m.Group != 0 {
		groups = ceilDiv(m.Cols, m.Group)
	}
	part := *m
	part.Rows = r1 - r0
	part.Mask = m.Mask[r0*words : r1*words]
	if m.Codes != nil {
		part.Codes, part.Scales = m.Codes[r0*m.Cols:r1*m.Cols], m.Scales[r0*groups:r1*groups]
	}
	if m.Zeros != nil {
		part.Zeros = m.Zeros[r0*groups : r1*groups]
	}
	if m.Values != nil {
		part.Values = m.Values[r0*m.Cols : r1*m.Cols]
	}
	return &part
}

// repair puts right what would keep a mutated blob from getting far: its
// size, the sizes of the chunks, their checksums, the survivors. It returns
// the table row, and false for blobs that are no use.
func repair(blob []byte) (TensorInfo, bool) {
	if len(blob) < packedHeader {
		return TensorInfo{}, false
	}
	le.PutUint64(blob[24:], uint64(len(blob)))
	h, err := parseHeader(blob, LayoutPacked)
	if err != nil || h.rows == 0 || h.cols == 0 || h.rows*h.cols > 1<<18 {
		return TensorInfo{}, false
	}
	info := TensorInfo{
		Name: "x", Shape: []uint64{h.cols, h.rows}, Coding: h.coding, Group: h.group, Layout: LayoutPacked,
		BlobBytes: h.bytes,
	}
	tiles := (h.rows + TileRows - 1) / TileRows
	count := int(tiles)
	if per := uint64(le.Uint32(blob[headerBytes:])); per != 0 {
		count = int((tiles + per - 1) / per)
	}
	at := packedHeader + count*(sumBytes+sizeBytes)
	for k := 0; k < count && at <= len(blob); k++ {
		sizeAt := packedHeader + count*sumBytes + k*sizeBytes
		size := min(int(le.Uint32(blob[sizeAt:])), len(blob)-at)
		if k == count-1 {
			size = len(blob) - at
		}
		le.PutUint32(blob[sizeAt:], uint32(size))
		le.PutUint64(blob[packedHeader+k*sumBytes:], xxh3.Hash(blob[at:at+size]))
		at += size
	}
	le.PutUint64(blob[16:], 0)
	p, err := NewPacked(blob, info)
	if err != nil {
		return info, true
	}
	for k := range p.chunks {
		if p.withChunk(k, func(r *Reader) error { info.Survivors += r.survivors; return nil }) != nil {
			break
		}
	}
	le.PutUint64(blob[16:], info.Survivors)
	info.BlobSum = xxh3.Hash(blob)
	return info, true
}

// TestChunksOfAnySize: how many tiles a chunk has is the writer's choice.
func TestChunksOfAnySize(t *testing.T) {
	for _, c := range Codings() {
		m := &Matrix{Rows: 70, Cols: 96, Coding: c}
		if c.Quantised() {
			m.Group = 64
		}
		fillMatrix(m, 4, func(row int) float64 { return float64(row) / 70 })
		for tiles := 1; tiles <= 5; tiles++ {
			blob := inChunks(t, m, tiles)
			p, err := NewPacked(blob, mustRepair(t, blob))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(); err != nil {
				t.Errorf("%v, %d tiles per chunk: %v", c, tiles, err)
			}
			expanded := make([]byte, p.Rows()*p.RowBytes())
			if err := p.ExpandRows(0, p.Rows(), expanded); err != nil || !bytes.Equal(expanded, expandAll(t, m)) {
				t.Errorf("%v, %d tiles per chunk: the expansion differs (%v)", c, tiles, err)
			}
		}
	}
}

// mustRepair gives the table row of a blob that needs no repair.
func mustRepair(t *testing.T, blob []byte) TensorInfo {
	t.Helper()
	before := bytes.Clone(blob)
	info, ok := repair(blob)
	if !ok || !bytes.Equal(blob, before) {
		t.Fatal("a sound blob is repaired")
	}
	return info
}

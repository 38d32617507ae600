package sparsefmt

import (
	"bytes"
	"testing"

	"besa/gguf"
)

// TestExpansionIsGGMLQuantisation: pruned floats quantised by ggml's Q4_0
// codec, taken apart into mask, scales and codes, expand to the codec's bytes.
func TestExpansionIsGGMLQuantisation(t *testing.T) {
	const rows, cols = 37, 224
	m := &Matrix{Rows: rows, Cols: cols, Coding: CodingQ4Sym, Group: 32}
	fillMatrix(m, 11, func(row int) float64 { return 0.3 + 0.01*float64(row) })
	r := newTestRand(12)
	weights := make([]float32, rows*cols)
	for i := range rows {
		for j := range cols {
			if m.Kept(i, j) {
				weights[i*cols+j] = float32(int64(r.next())) / (1 << 63)
			}
		}
	}
	want := make([]byte, rows*m.RowBytes())
	if err := gguf.Quantize(gguf.Q4_0, want, weights); err != nil {
		t.Fatal(err)
	}
	for b := range rows * cols / 32 {
		block := want[18*b : 18*(b+1)]
		m.Scales[b] = le.Uint16(block)
		for j := range 16 {
			m.Codes[32*b+j], m.Codes[32*b+16+j] = block[2+j]&15, block[2+j]>>4
		}
	}
	blob, info, err := EncodeTensor("x", []uint64{cols, rows}, m)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := ExpandRows(blob, info, 0, rows, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the expansion differs from what ggml's codec made of the pruned weights")
	}
}

// TestBalance: any division is valid; this one must be close to even.
func TestBalance(t *testing.T) {
	r := newTestRand(4)
	for range 2000 {
		counts := make([]int, 1+r.next()%TileRows)
		least := 1 << 30
		for i := range counts {
			counts[i] = 200 + int(r.next()%200)
			least = min(least, counts[i])
		}
		h := balance(counts)
		if !h.valid(len(counts)) {
			t.Fatalf("%v is divided as %#04x", counts, uint16(h))
		}
		low, high := h.sum(counts)
		diff := max(low-high, high-low)
		if even := len(counts)%2 == 0; even && len(counts) >= 12 && diff > 60 || !even && diff > least+200 {
			t.Errorf("%v is divided into %d and %d", counts, low, high)
		}
	}
}

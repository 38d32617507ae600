package sparsefmt

import (
	"fmt"
	"testing"
)

// benchMatrix has the shape of a 1B model's feed-forward matrix.
func benchMatrix(c Coding, rows, cols, group int) *Matrix {
	m := &Matrix{Rows: rows, Cols: cols, Coding: c, Group: group}
	fillMatrix(m, 1, func(int) float64 { return 0.5 })
	return m
}

var benchCases = []struct {
	coding     Coding
	cols, rows int
	group      int
}{
	{CodingQ4Sym, 2048, 1024, 128},
	{CodingQ4Sym, 576, 1536, 64},
	{CodingQ4Asym, 2048, 1024, 64},
	{CodingF16, 2048, 1024, 0},
	{CodingQ8Sym, 2048, 1024, 32},
}

// forgetChunks drops what decoders remember, so that nothing is read twice
// for the price of once.
func forgetChunks() {
	idleDecoders.Lock()
	defer idleDecoders.Unlock()
	for _, d := range idleDecoders.list {
		d.reader = nil
	}
}

// BenchmarkExpandPacked counts expanded bytes, as BenchmarkExpand does. Every
// chunk is decoded anew.
func BenchmarkExpandPacked(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(fmt.Sprintf("%v_%d_g%d", bc.coding, bc.cols, bc.group), func(b *testing.B) {
			_, _, blob, info := packMatrix(b, benchMatrix(bc.coding, bc.rows, bc.cols, bc.group))
			p, err := NewPacked(blob, info)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, bc.rows*p.RowBytes())
			b.SetBytes(int64(len(dst)))
			for b.Loop() {
				forgetChunks()
				if err := p.ExpandRows(0, bc.rows, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPack counts the bytes of plain blobs.
func BenchmarkPack(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(fmt.Sprintf("%v_%d_g%d", bc.coding, bc.cols, bc.group), func(b *testing.B) {
			blob, info, _, _ := packMatrix(b, benchMatrix(bc.coding, bc.rows, bc.cols, bc.group))
			b.SetBytes(int64(len(blob)))
			for b.Loop() {
				if _, _, err := Pack(blob, info); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkExpand counts expanded bytes, BenchmarkEncode the matrix's codes
// or values.
func BenchmarkExpand(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(fmt.Sprintf("%v_%d_g%d", bc.coding, bc.cols, bc.group), func(b *testing.B) {
			m := benchMatrix(bc.coding, bc.rows, bc.cols, bc.group)
			blob, info, err := EncodeTensor("x", []uint64{uint64(bc.cols), uint64(bc.rows)}, m)
			if err != nil {
				b.Fatal(err)
			}
			r, err := NewReader(blob, info)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, TileRows*r.RowBytes())
			b.SetBytes(int64(info.ExpandedBytes()))
			for b.Loop() {
				for row := 0; row < m.Rows; row += TileRows {
					if err := r.ExpandRows(row, row+TileRows, dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, bc := range benchCases {
		b.Run(fmt.Sprintf("%v_%d_g%d", bc.coding, bc.cols, bc.group), func(b *testing.B) {
			m := benchMatrix(bc.coding, bc.rows, bc.cols, bc.group)
			b.SetBytes(int64(len(m.Codes) + 2*len(m.Values)))
			for b.Loop() {
				if _, err := Encode(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	m := benchMatrix(CodingQ4Sym, 1024, 2048, 128)
	blob, info, err := EncodeTensor("x", []uint64{2048, 1024}, m)
	if err != nil {
		b.Fatal(err)
	}
	r, err := NewReader(blob, info)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(blob)))
	for b.Loop() {
		if err := r.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

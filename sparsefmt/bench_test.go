package sparsefmt

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
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

// BenchmarkExpandBesideCopy expands matrices that no cache holds, on one core and
// on all that there are, which share the memory: plain and packed ones in steps into
// a buffer per core, as what writes files does, and plain ones into memory that no
// cache holds either. In turn with that it copies as many bytes as come out, the
// same two ways. GB/s of output of all cores, the median of all rounds.
func BenchmarkExpandBesideCopy(b *testing.B) {
	for _, c := range []struct {
		coding Coding
		group  int
	}{{CodingQ4Sym, 64}, {CodingQ4Sym, 128}, {CodingQ4Asym, 64}, {CodingQ8Sym, 32}, {CodingF16, 0}} {
		const rows, cols = 16384, 4096
		m := benchMatrix(c.coding, rows/64, cols, c.group)
		plain, packed := tallBlobs(b, m, 64)
		for _, cores := range []int{1, runtime.NumCPU()} {
			b.Run(fmt.Sprintf("%v_g%d/cores=%d", c.coding, c.group, cores), func(b *testing.B) {
				// -cpu does not reach benchmarks that use Loop.
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
				expandBesideCopy(b, plain, packed, cores)
			})
		}
	}
}

func expandBesideCopy(b *testing.B, plain *Reader, packed *Packed, cores int) {
	rows, size := plain.Rows(), plain.RowBytes()
	dst := make([]byte, rows*size)
	src := bytes.Repeat([]byte{1}, len(dst)) // pages of its own: untouched ones are all the same
	copied := func(r0, r1 int, dst []byte) error { copy(dst, src[r0*size:r1*size]); return nil }
	small, share := stepBytes/size/TileRows*TileRows, ceilDiv(rows/TileRows, cores)*TileRows
	kinds := []struct {
		name   string
		step   int
		expand func(r0, r1 int, dst []byte) error
	}{
		{"copy", small, copied}, {"plain", small, plain.ExpandRows}, {"packed", packed.RowStep(), packed.ExpandRows},
		{"copy-out", share, copied}, {"plain-out", share, plain.ExpandRows},
	}
	rounds := make([][]float64, len(kinds))
	for b.Loop() {
		for i, k := range kinds {
			steps := ceilDiv(rows, k.step)
			start := time.Now()
			err := parallel(cores, func(core int) error {
				for s := steps * core / cores; s < steps*(core+1)/cores; s++ {
					r0, r1 := s*k.step, min((s+1)*k.step, rows)
					if err := k.expand(r0, r1, dst[core*k.step*size:][:(r1-r0)*size]); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			rounds[i] = append(rounds[i], float64(len(dst))/1e9/time.Since(start).Seconds())
		}
	}
	speeds := map[string]float64{}
	for i, k := range kinds {
		slices.Sort(rounds[i])
		speeds[k.name] = rounds[i][len(rounds[i])/2]
		b.ReportMetric(speeds[k.name], k.name+"-GB/s")
	}
	b.ReportMetric(speeds["plain"]/speeds["copy"], "plain/copy")
	b.ReportMetric(speeds["plain-out"]/speeds["copy-out"], "plain-out/copy-out")
	b.ReportMetric(0, "ns/op")
}

// tallBlobs repeats a matrix and returns readers of both layouts.
func tallBlobs(b *testing.B, m *Matrix, times int) (plain *Reader, packed *Packed) {
	b.Helper()
	tall := *m
	tall.Rows *= times
	tall.Mask = slices.Repeat(m.Mask, times)
	tall.Codes, tall.Scales = slices.Repeat(m.Codes, times), slices.Repeat(m.Scales, times)
	tall.Values = slices.Repeat(m.Values, times)
	if m.Zeros != nil {
		tall.Zeros = slices.Repeat(m.Zeros, times)
	}
	blob, info, packedBlob, packedInfo := packMatrix(b, &tall)
	plain, err := NewReader(blob, info)
	if err != nil {
		b.Fatal(err)
	}
	if packed, err = NewPacked(packedBlob, packedInfo); err != nil {
		b.Fatal(err)
	}
	return plain, packed
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

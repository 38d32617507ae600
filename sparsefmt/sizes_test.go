package sparsefmt

import (
	"context"
	"math"
	"math/bits"
	"path/filepath"
	"testing"

	"besa/gguf"
)

// sizeCase is a set of matrices at exactly 50 % and the most a file may take.
type sizeCase struct {
	name    string
	coding  Coding
	group   int
	shapes  [][]uint64
	largest float64 // bits per weight, everything stored for them included
}

var sizeCases = []sizeCase{
	{"SmolLM2-135M block, q4_sym group 64", CodingQ4Sym, 64, smolBlock, 3.30},
	{"SmolLM2-135M block, q4_sym group 128", CodingQ4Sym, 128, smolBlock, 3.20},
	{"SmolLM2-135M block, q4_asym group 64", CodingQ4Asym, 64, smolBlock, 3.35},
	{"SmolLM2-135M block, f16", CodingF16, 0, smolBlock, 9.1},
	{"576 columns alone, q4_sym group 64", CodingQ4Sym, 64, [][]uint64{{576, 1536}}, 3.30},
	{"4096 columns, q4_sym group 128", CodingQ4Sym, 128, [][]uint64{{4096, 512}}, 3.16},
	{"4096 columns, q4_asym group 128", CodingQ4Asym, 128, [][]uint64{{4096, 512}}, 3.19},
	{"4096 columns, f16", CodingF16, 0, [][]uint64{{4096, 256}}, 9.02},
}

var smolBlock = [][]uint64{{576, 576}, {576, 192}, {576, 192}, {576, 576}, {576, 1536}, {576, 1536}, {1536, 576}}

// TestSizes measures whole files that hold nothing but pruned tensors.
func TestSizes(t *testing.T) {
	for _, c := range sizeCases {
		t.Run(c.name, func(t *testing.T) {
			s := &testModel{data: map[string][]byte{}}
			blobs := map[string]Blob{}
			var weights, bits float64
			for i, shape := range c.shapes {
				name := "blk.0." + string(rune('a'+i)) + ".weight"
				x := gguf.Tensor{Name: name, Type: gguf.Q4_0, Shape: shape}
				s.tensors, s.data[name] = append(s.tensors, x), make([]byte, x.Elements()/32*18)
				m := &Matrix{Rows: int(x.Rows()), Cols: int(x.Cols()), Coding: c.coding, Group: c.group}
				fillMatrix(m, uint64(i), func(int) float64 { return 0.5 })
				exactHalf(m)
				b, info, err := EncodeTensor(name, shape, m)
				if err != nil {
					t.Fatal(err)
				}
				if 2*info.Survivors != x.Elements() {
					t.Fatalf("%d survivors of %d", info.Survivors, x.Elements())
				}
				guess, err := EstimateBytes(c.coding, x.Rows(), x.Cols(), c.group, info.Survivors)
				if err != nil {
					t.Fatal(err)
				}
				if e := float64(guess) / float64(info.StoredBytes()); e < 0.995 || e > 1.005 {
					t.Errorf("%v: estimated %d bytes, stored %d", shape, guess, info.StoredBytes())
				}
				blobs[name] = BlobOf(info, b)
				weights += float64(x.Elements())
				bits += 8 * float64(len(b))
			}
			size := fileSize(t, s, blobs)
			got := 8 * float64(size) / weights
			t.Logf("blobs %.4f, whole file %.4f bits per weight (%d bytes)", bits/weights, got, size)
			if !(got <= c.largest) {
				t.Errorf("%.4f bits per weight, want at most %.2f", got, c.largest)
			}
		})
	}
}

func fileSize(t *testing.T, s *testModel, blobs map[string]Blob) int64 {
	t.Helper()
	dir := t.TempDir()
	s.write(t, filepath.Join(dir, "source.gguf"))
	src, err := gguf.Open(filepath.Join(dir, "source.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	path := filepath.Join(dir, "sparse.gguf")
	if err := Create(context.Background(), path, src, blobs, CreateOptions{keepBlobs: true}); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, path).GGUF().Size()
}

// TestLayoutsCompared prints the table of docs/decisions/0002: one blob in
// three layouts, on masks whose rows are 50 % ± spread dense.
func TestLayoutsCompared(t *testing.T) {
	for _, c := range []struct{ cols, rows, group int }{{576, 1536, 64}, {1536, 576, 64}, {2048, 512, 128}, {4096, 512, 128}} {
		for _, spread := range []float64{0, 0.1, 0.2} {
			r := newTestRand(uint64(c.cols))
			m := &Matrix{Rows: c.rows, Cols: c.cols, Coding: CodingQ4Sym, Group: c.group}
			fillMatrix(m, 2, func(int) float64 { return 0.5 + spread*(float64(r.next()>>11)/(1<<52)-1) })
			blob, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			weights := float64(m.Rows * m.Cols)
			least := 1 + 4*float64(m.Survivors())/weights + 16*float64(m.Groups())/float64(m.Cols)
			rows, fixed, tiles := 8*rowLayout(m)/weights, 8*fixedTiles(m)/weights, 8*float64(len(blob))/weights
			t.Logf("| %d | %d | ±%.0f %% | %.3f | %.3f | %.3f | %.3f |", c.cols, c.group, 100*spread, rows, fixed, tiles, least)
			if tiles > rows || tiles > fixed || tiles > least+0.012 {
				t.Errorf("%d columns: tiles take %.4f bits per weight", c.cols, tiles)
			}
		}
	}
}

// rowLayout is the size of the draft's layout: rows of their own, planes for
// the even and the odd 128-groups, columns padded to a multiple of 256.
func rowLayout(m *Matrix) float64 {
	size := TailPadding
	for i := range m.Rows {
		var planes [2]int
		for w, word := range m.rowMask(i) {
			planes[w/2%2] += bits.OnesCount64(word)
		}
		n := 2*m.Groups() + 32*ceilDiv(m.Cols, 256) + max(planes[0], planes[1])
		size += ceilDiv(n, 16)*16 + 4
	}
	return float64(size)
}

// fixedTiles is the size of tiles whose first half is always the low one.
func fixedTiles(m *Matrix) float64 {
	e := encoder{m: m}
	e.g, _ = newGeometry(m.Coding, uint64(m.Rows), uint64(m.Cols), m.Group)
	size := alignUp(e.g.halvesAt()) + TailPadding
	for t := range e.g.tiles {
		low, high := halves(0xff00).sum(e.counts(t))
		size += alignUp(uint64(e.g.fixedBytes(e.g.tileRows(t)) + e.g.streamBytes(low, high)))
	}
	return float64(size)
}

// exactHalf prunes or keeps random weights of m, in canonical form, until
// exactly half of them survive.
func exactHalf(m *Matrix) {
	r := newTestRand(math.MaxUint64)
	for n := m.Survivors(); 2*n != m.Rows*m.Cols; {
		i, j := int(r.next()%uint64(m.Rows)), int(r.next()%uint64(m.Cols))
		if kept := m.Kept(i, j); kept == (2*n > m.Rows*m.Cols) {
			m.Mask[i*m.Words()+j/64] ^= 1 << (j % 64)
			fillWeight(m, r, i, j, !kept)
			if kept {
				n--
				if m.Values != nil {
					m.Values[i*m.Cols+j] = 0
				}
			} else {
				n++
			}
		}
	}
}

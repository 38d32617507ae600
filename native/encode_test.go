package native

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"besa/sparsefmt"
)

// dense expands a matrix with package sparsefmt.
func dense(t testing.TB, m *sparsefmt.Matrix) []byte {
	t.Helper()
	n := m.RowBytes()
	data := make([]byte, m.Rows*n)
	for i := range m.Rows {
		if err := m.ExpandRow(i, data[i*n:(i+1)*n]); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// decode reads a blob with package sparsefmt, by the blob's own header.
func decode(blob []byte, coding sparsefmt.Coding, rows, cols int, group uint32) (*sparsefmt.Matrix, error) {
	return sparsefmt.Decode(blob, sparsefmt.TensorInfo{
		Name: "w", Shape: []uint64{uint64(cols), uint64(rows)}, Coding: coding, Group: int(group),
		Survivors: binary.LittleEndian.Uint64(blob[16:]), BlobBytes: uint64(len(blob)),
	})
}

// encoded encodes an ordinary matrix; its memory and the blob's are guarded.
func (l *library) encoded(t *testing.T, data []byte, coding sparsefmt.Coding, rows, cols int, tight edge) (blob []byte, group uint32) {
	t.Helper()
	data = guarded(t, data, tight)
	all := guarded(t, make([]byte, (l.bound(uint32(coding), uint32(rows), uint32(cols))+7)/8*8), tight)
	n := l.encode(unsafe.Pointer(&data[0]), uint32(coding), uint32(rows), uint32(cols), unsafe.Pointer(&all[0]), unsafe.Pointer(&group))
	return all[:n:n], group
}

// What the plugin makes of an ordinary tensor is a valid blob, which package
// sparsefmt and the plugin itself expand to that tensor, byte for byte where
// something survives. Weights that are zero count as pruned, unless a few of them
// make the number of survivors the same everywhere; scales of blocks without
// survivors do not matter.
func TestEncode(t *testing.T) {
	l := load(t)
	for name, s := range shapes() {
		for _, coding := range codings {
			t.Run(fmt.Sprintf("%s/%v", name, coding), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(uint64(s.rows), uint64(s.cols)))
				m := s.matrix(rnd, coding, func() float32 { return float32(rnd.NormFloat64()) })
				data, tight := dense(t, m), edges[s.cols/32%2]
				blob, group := l.encoded(t, data, coding, s.rows, s.cols, tight)
				if m.Group > 0 && int(group) < m.Group {
					t.Errorf("group %d of a matrix with %d", group, m.Group)
				}
				if wrong := l.open(unsafe.Pointer(&blob[0]), uint64(len(blob))); wrong != "" {
					t.Fatal(wrong)
				}
				got, err := decode(blob, coding, s.rows, s.cols, group)
				if err != nil {
					t.Fatal(err)
				}
				even := evenWords(got)
				if strings.HasSuffix(name, " of 64") && coding == sparsefmt.CodingQ4Sym && !even && !strings.HasPrefix(name, "33") {
					t.Error("the words of a mask of fixed shape have different numbers of survivors")
				}
				for i := range s.rows {
					a, b := make([]float32, s.cols), make([]float32, s.cols)
					if err := m.Floats(i, a); err != nil {
						t.Fatal(err)
					}
					if err := got.Floats(i, b); err != nil {
						t.Fatal(err)
					}
					for j := range a {
						if a[j] != b[j] {
							t.Fatalf("weight %d,%d: %v became %v", i, j, a[j], b[j])
						}
						if got.Kept(i, j) && b[j] == 0 && !even && m.Group > 0 && m.Scales[i*m.Groups()+j/m.Group]&0x7fff != 0 {
							t.Fatalf("weight %d,%d is zero and was kept", i, j)
						}
					}
				}
				expanded := guarded(t, make([]byte, len(data)), tight)
				l.expand(unsafe.Pointer(&blob[0]), uint64(len(blob)), unsafe.Pointer(&expanded[0]))
				if !bytes.Equal(expanded, dense(t, got)) {
					t.Error("the plugin and sparsefmt expand the blob differently")
				}
			})
		}
	}
}

// evenWords tells whether all mask words have the same number of survivors.
func evenWords(m *sparsefmt.Matrix) bool {
	for _, w := range m.Mask {
		if bits.OnesCount64(w) != bits.OnesCount64(m.Mask[0]) {
			return false
		}
	}
	return true
}

// Scales and values that are not finite are left to stock.
func TestEncodeRefusesNonFinite(t *testing.T) {
	l := load(t)
	for _, coding := range codings {
		rnd := rand.New(rand.NewPCG(1, 1))
		m := shape{17, 64, 32, evenly(0.5)}.matrix(rnd, coding, func() float32 { return 1 })
		data := dense(t, m)
		at, high := len(data)-18, byte(0x7c) // the scale of the last block
		switch coding {
		case sparsefmt.CodingQ8Sym:
			at = len(data) - 34
		case sparsefmt.CodingF16, sparsefmt.CodingBF16:
			at, high = len(data)-2, 0x7f
			data[at] = 0x80
		}
		data[at+1] = high
		if blob, _ := l.encoded(t, data, coding, 17, 64, atEnd); len(blob) != 0 {
			t.Errorf("%v: a value that is not finite was encoded", coding)
		}
	}
}

// Whatever is wrong with a blob, either it is refused or the kernels stay
// inside it: the page behind it cannot be read.
func TestCorruptBlobs(t *testing.T) {
	l := loadKernels(t)
	for _, coding := range codings {
		rnd := rand.New(rand.NewPCG(7, uint64(coding)))
		s := shape{37, 416, 64, evenly(0.5)}
		m := s.matrix(rnd, coding, func() float32 { return 1 })
		blob, err := sparsefmt.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		x := normal(rnd, 5*s.cols)
		refused := 0
		for part := range 30 { // guard pages are given back after each
			t.Run(fmt.Sprintf("%v/%d", coding, part), func(t *testing.T) {
				for i := range 50 {
					bad := corrupt(rnd, blob, i)
					b := guarded(t, bad, atEnd)
					if wrong := l.open(unsafe.Pointer(&b[0]), uint64(len(b))); wrong != "" {
						refused++
						continue
					}
					// A blob of another shape than its tensor's is refused when it is offered.
					if binary.LittleEndian.Uint32(bad[8:]) != uint32(s.cols) || binary.LittleEndian.Uint32(bad[12:]) != uint32(s.rows) {
						continue
					}
					for _, tokens := range []int{1, 5} {
						l.product(t, b, vector, tokens, x, s.rows)
					}
				}
			})
		}
		if refused < 500 {
			t.Errorf("%v: only %d of 1500 corrupt blobs were refused", coding, refused)
		}
	}
}

// corrupt flips bits, half of the time in the header and the tables, and cuts
// every fifth blob short.
func corrupt(rnd *rand.Rand, blob []byte, i int) []byte {
	bad := bytes.Clone(blob)
	for range 1 + rnd.IntN(2) {
		at := rnd.IntN(len(bad))
		if i%2 == 0 {
			at = rnd.IntN(64)
		}
		bad[at] ^= byte(1 << rnd.IntN(8))
	}
	if i%5 == 0 {
		bad = bad[:8*rnd.IntN(len(bad)/8)+8]
	}
	return bad
}

// offerStruct is struct besa_native_tensor.
type offerStruct struct {
	size          uint64
	name          *byte
	rows, cols    uint64
	coding, group uint32
	blob          *byte
	blobBytes     uint64
	reserved      uint64
}

func TestOffers(t *testing.T) {
	l := loadKernels(t)
	rnd := rand.New(rand.NewPCG(3, 3))
	m := shape{20, 128, 64, evenly(0.5)}.matrix(rnd, sparsefmt.CodingQ4Sym, func() float32 { return 1 })
	blob, err := sparsefmt.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	b := guarded(t, blob, atEnd)
	name := append([]byte("blk.0.test.weight"), 0)
	long := append(bytes.Repeat([]byte("x"), 64), 0)
	good := offerStruct{64, &name[0], 20, 128, 1, 64, &b[0], uint64(len(b)), 0}
	const ok, badArgument, corrupt, unsupported, duplicate = 0, -1, -2, -3, -5
	asym := &sparsefmt.Matrix{Rows: m.Rows, Cols: m.Cols, Coding: sparsefmt.CodingQ4Asym, Group: 64, Mask: m.Mask, Codes: m.Codes, Scales: m.Scales,
		Zeros: make([]uint8, len(m.Scales))}
	blob, err = sparsefmt.Encode(asym)
	if err != nil {
		t.Fatal(err)
	}
	a := guarded(t, blob, atEnd)
	for what, c := range map[string]struct {
		change func(o *offerStruct)
		want   int32
	}{
		"size of the struct": {func(o *offerStruct) { o.size = 56 }, badArgument},
		"no name":            {func(o *offerStruct) { o.name = nil }, badArgument},
		"long name":          {func(o *offerStruct) { o.name = &long[0] }, badArgument},
		"no blob":            {func(o *offerStruct) { o.blob = nil }, badArgument},
		"other shape":        {func(o *offerStruct) { o.rows = 21 }, corrupt},
		"other coding":       {func(o *offerStruct) { o.coding = 2 }, corrupt},
		"other group":        {func(o *offerStruct) { o.group = 32 }, corrupt},
		"cut short":          {func(o *offerStruct) { o.blobBytes -= 8 }, corrupt},
		"asymmetric":         {func(o *offerStruct) { o.coding, o.blob, o.blobBytes = 2, &a[0], uint64(len(a)) }, unsupported},
	} {
		o := good
		c.change(&o)
		if got := l.offer(unsafe.Pointer(&o)); got != c.want {
			t.Errorf("%s: result %d, want %d", what, got, c.want)
		}
	}
	if got := l.offer(nil); got != badArgument {
		t.Errorf("null: result %d", got)
	}
	for range 2 {
		if got := l.offer(unsafe.Pointer(&good)); got != ok {
			t.Errorf("good offer: result %d", got)
		}
		if got := l.offer(unsafe.Pointer(&good)); got != duplicate {
			t.Errorf("second offer: result %d", got)
		}
		l.withdraw(unsafe.Pointer(&b[0]))
	}
	if l.abi() != 1 {
		t.Error("interface version")
	}
}

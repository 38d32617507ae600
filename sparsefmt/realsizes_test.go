package sparsefmt

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealSizes prints, for each sparse GGUF named in BESA_SPARSE_MODELS
// (separated by colons), what its pruned tensors take in both layouts, beside
// the order-0 entropy of what they hold: scripts/format-sizes.sh runs it.
func TestRealSizes(t *testing.T) {
	models := os.Getenv("BESA_SPARSE_MODELS")
	if models == "" {
		t.Skip("BESA_SPARSE_MODELS names no files: see scripts/format-sizes.sh")
	}
	t.Log("| file | coding | group | pruned | plain | packed | order-0 entropy | masks | survivors | scales |")
	for _, path := range strings.Split(models, ":") {
		f := mustOpen(t, path)
		var weights, kept, plainBytes, packedBytes float64
		var bound entropy
		var first TensorInfo
		for i := range f.entries {
			e := &f.entries[i]
			if e.blob == nil {
				continue
			}
			blob, plain, _, err := f.Plain(e.info.Name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Decode(blob, plain)
			if err != nil {
				t.Fatal(err)
			}
			_, packed, err := Pack(blob, plain)
			if err != nil {
				t.Fatal(err)
			}
			first = plain
			weights += float64(plain.Elements())
			kept += float64(plain.Survivors)
			plainBytes += float64(plain.BlobBytes)
			packedBytes += float64(packed.BlobBytes)
			bound.add(m)
		}
		per := func(bits float64) float64 { return bits / weights }
		t.Logf("| %s | %v | %d | %.2f %% | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |", filepath.Base(path), first.Coding, first.Group,
			100*(1-kept/weights), per(8*plainBytes), per(8*packedBytes), per(bound.masks+bound.codes+bound.scales),
			per(bound.masks), per(bound.codes), per(bound.scales))
	}
}

// entropy sums up ideal bits, with statistics by tensor: one density for all
// mask bits, one distribution for survivors, and one each for the two bytes of
// scales and of 16-bit survivors.
type entropy struct{ masks, codes, scales float64 }

func (e *entropy) add(m *Matrix) {
	kept, total := m.Survivors(), m.Rows*m.Cols
	e.masks += shannon([]int{kept, total - kept})
	var codes, low, high [256]int
	for i := range m.Rows {
		eachKept(m.rowMask(i), func(j int) {
			if m.Values != nil {
				v := m.Values[i*m.Cols+j]
				low[v&255]++
				high[v>>8]++
				return
			}
			codes[m.Codes[i*m.Cols+j]]++
		})
	}
	e.codes += shannon(codes[:]) + shannon(low[:]) + shannon(high[:])
	low, high = [256]int{}, [256]int{}
	for _, h := range m.Scales {
		var b [2]byte
		binary.LittleEndian.PutUint16(b[:], h)
		low[b[0]]++
		high[b[1]]++
	}
	e.scales += shannon(low[:]) + shannon(high[:])
}

// shannon is the total information of symbols with these counts, in bits.
func shannon(counts []int) (bits float64) {
	total := 0
	for _, n := range counts {
		total += n
	}
	for _, n := range counts {
		if n > 0 {
			bits -= float64(n) * math.Log2(float64(n)/float64(total))
		}
	}
	return bits
}

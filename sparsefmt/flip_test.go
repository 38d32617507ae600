package sparsefmt

import (
	"context"
	"math/bits"
	"os"
	"path/filepath"
	"testing"

	"besa/gguf"
)

// TestEveryByteCounts changes the vectors, one byte at a time: Verify must
// notice each. TestEveryBitCounts is about smaller files.
func TestEveryByteCounts(t *testing.T) {
	for _, vector := range []string{vectorFile, packedVectorFile} {
		t.Run(filepath.Base(vector), func(t *testing.T) {
			t.Parallel()
			everyChangeCounts(t, mustRead(t, vector), func(i int, b byte) []byte {
				if i%5 == 0 {
					return []byte{^b}
				}
				return []byte{b ^ 1<<(bits.Reverse8(uint8(i))&7)}
			})
		})
	}
}

// TestEveryBitCounts flips every bit of a small file of each layout, header,
// padding and all: Verify must notice each.
func TestEveryBitCounts(t *testing.T) {
	s := &testModel{data: map[string][]byte{}, pruned: map[string]*Matrix{}}
	s.kvs = []gguf.KV{gguf.MustKV("general.architecture", "llama")}
	s.add("a", []uint64{3}, nil)
	s.add("b", []uint64{32, 3}, &Matrix{Coding: CodingQ4Asym, Group: 32}) // halves and zero codes with a rest
	s.add("c", []uint64{33, 2}, &Matrix{Coding: CodingBF16})              // masks with a rest
	s.add("d", []uint64{64, 17}, &Matrix{Coding: CodingQ4Sym, Group: 64}) // two tiles
	skew(s.pruned["d"])
	for _, layout := range []Layout{LayoutPlain, LayoutPacked} {
		t.Run(layout.String(), func(t *testing.T) {
			t.Parallel()
			_, path := s.sparseAs(t, layout)
			everyChangeCounts(t, mustRead(t, path), func(_ int, b byte) []byte {
				flipped := make([]byte, 8)
				for bit := range flipped {
					flipped[bit] = b ^ 1<<bit
				}
				return flipped
			})
		})
	}
}

// everyChangeCounts puts what instead says in the place of every byte of a file:
// Verify must notice each of them.
func everyChangeCounts(t *testing.T, data []byte, instead func(i int, b byte) []byte) {
	path := filepath.Join(t.TempDir(), "changed.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	put := func(i int, b byte) {
		if _, err := file.WriteAt([]byte{b}, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range data {
		for _, other := range instead(i, b) {
			put(i, other)
			if report, err := Verify(context.Background(), path); err == nil || report.OK() {
				t.Errorf("byte %d: %#02x instead of %#02x is not noticed", i, other, b)
			}
		}
		put(i, b)
	}
	if _, err := Verify(context.Background(), path); err != nil {
		t.Errorf("the restored file fails: %v", err)
	}
}

package sparsefmt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/zeebo/xxh3"
)

// FuzzDecode feeds blobs whose header says what the table would. Laws: no
// panic; what passes Check decodes, re-encodes to a blob that decodes to the
// same matrix, and expands as the matrix does.
func FuzzDecode(f *testing.F) {
	s := newSurgery(f)
	for _, name := range prunedNames {
		f.Add(s.blob(name))
	}
	m := &Matrix{Rows: 35, Cols: 160, Coding: CodingQ4Asym, Group: 128}
	fillMatrix(m, 9, func(row int) float64 { return float64(row) / 35 })
	blob, err := Encode(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob)
	f.Fuzz(func(t *testing.T, blob []byte) {
		if len(blob) < headerBytes {
			return
		}
		// Without these a changed length or mask would never get far.
		le.PutUint64(blob[24:], uint64(len(blob)))
		le.PutUint64(blob[16:], 0)
		le.PutUint64(blob[16:], maskedSurvivors(blob))
		h, err := parseHeader(blob, LayoutPlain)
		if err != nil {
			return
		}
		info := TensorInfo{
			Name: "x", Shape: []uint64{h.cols, h.rows}, Coding: h.coding, Group: h.group,
			Survivors: h.survivors, BlobBytes: h.bytes, BlobSum: xxh3.Hash(blob),
		}
		r, err := NewReader(blob, info)
		if err != nil {
			mustBeRule(t, err)
			return
		}
		// Reading must be safe whether or not Check passes.
		expanded := make([]byte, r.Rows()*r.RowBytes())
		expandErr := r.ExpandRows(0, r.Rows(), expanded)
		m, err := Decode(blob, info)
		if err != nil {
			mustBeRule(t, err)
			return
		}
		if expandErr != nil {
			t.Fatalf("a valid blob does not expand: %v", expandErr)
		}
		if !bytes.Equal(expanded, expandAll(t, m)) {
			t.Fatal("blob and matrix expand differently")
		}
		again, info2, err := EncodeTensor("x", info.Shape, m)
		if err != nil {
			t.Fatalf("a decoded matrix does not encode: %v", err)
		}
		if m2, err := Decode(again, info2); err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("decode(encode(m)) differs from m (%v)", err)
		}
	})
}

// maskedSurvivors counts the survivors in the tiles of a blob, 0 if it has none.
func maskedSurvivors(blob []byte) uint64 {
	h, err := parseHeader(blob, LayoutPlain)
	if err != nil {
		return 0
	}
	r, err := NewReader(blob, TensorInfo{
		Shape: []uint64{h.cols, h.rows}, Coding: h.coding, Group: h.group, Survivors: h.survivors, BlobBytes: h.bytes,
	})
	if err != nil {
		return 0
	}
	total := 0
	for t := range r.tiles {
		v, err := r.tile(t)
		if err != nil {
			return 0
		}
		for _, n := range v.count {
			total += n
		}
	}
	return uint64(total)
}

// mustBeRule checks that a rejection names its rule.
func mustBeRule(t *testing.T, err error) {
	t.Helper()
	var re *RuleError
	if !errors.As(err, &re) || ruleTexts[re.Rule] == "" {
		t.Fatalf("%v names no rule", err)
	}
}

// FuzzOpen feeds whole files, their header checksum put right so that the
// input gets past it. Laws: no panic; a file that does not open yields
// nothing; one that passes Verify opens and expands.
func FuzzOpen(f *testing.F) {
	f.Add(mustRead(f, vectorFile))
	f.Add(mustRead(f, packedVectorFile))
	for _, c := range slices.Concat(fileCases, chunkTableCases, contentCases, chunkCases) {
		if c.change != nil {
			s := c.surgery(f)
			c.change(s)
			f.Add(mustRead(f, s.write()))
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "fuzzed.gguf")
		out := filepath.Join(dir, "expanded.gguf")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if resigned(path, data) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		report, verifyErr := Verify(context.Background(), path)
		if report.OK() != (verifyErr == nil) {
			t.Fatalf("Verify says %v, its report %+v", verifyErr, report)
		}
		file, err := Open(path)
		if err != nil {
			if verifyErr == nil {
				t.Fatalf("a verified file does not open: %v", err)
			}
			return
		}
		defer file.Close()
		for _, v := range file.Tensors() {
			if v.Elements() < 1<<20 {
				_ = file.ReadFloats(v.Name, make([]float32, v.Elements()))
			}
		}
		err = file.ExpandTo(context.Background(), out, nil)
		if verifyErr == nil && err != nil {
			t.Fatalf("a verified file does not expand: %v", err)
		}
	})
}

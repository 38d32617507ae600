package sparsefmt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/golden"
)

// contentCases are files whose header is in order: Open accepts them, Verify
// must not.
var contentCases = []brokenFile{
	{rule: RulePadding, name: "between", err: ErrMalformed, part: "padding after", bytes: func(b []byte) []byte {
		return setByte(b, tensorEnd("blk.0.attn_norm.weight"), 1)
	}},
	{rule: RulePadding, name: "last", err: ErrMalformed, part: "padding after", bytes: func(b []byte) []byte {
		return setByte(b, len(b)-1, 0x80)
	}},
	{rule: RulePadding, name: "missing", err: ErrMalformed, part: "its tensors end at", bytes: func(b []byte) []byte {
		return b[:tensorEnd("output_norm.weight")]
	}},
	{rule: RulePadding, name: "trailing", err: ErrMalformed, part: "its tensors end at", bytes: func(b []byte) []byte {
		return append(b, 0)
	}},
	{rule: RuleDenseSum, name: "flip", err: ErrChecksum, part: "found", change: func(s *surgery) { s.data["output_norm.weight"][0] ^= 1 }},
	{rule: RuleDenseSum, name: "table", err: ErrChecksum, part: "found", change: func(s *surgery) { s.put64(keyDenseSum, 1, 7) }},
	{rule: RuleMaskTail, name: "q4", err: ErrMalformed, part: "row 0", change: func(s *surgery) { s.blob(symName)[48+12] = 1 }},
	{rule: RuleMaskTail, name: "f16", err: ErrMalformed, part: "row 2", change: func(s *surgery) { s.blob(f16Name)[48+2*8+7] = 0x80 }},
	{rule: RuleTileLength, name: "pruned_one_more", err: ErrMalformed, part: "its masks say", change: func(s *surgery) {
		// Row 1 keeps all its 33 weights: without 4 of them the tile is 8 bytes shorter.
		s.blob(f16Name)[48+8] = 0x0f
	}},
	{rule: RuleTileLength, name: "kept_all", err: ErrMalformed, part: "its masks say", change: func(s *surgery) {
		for i := range 12 * 16 {
			s.blob(symName)[48+i/12*16+i%12] = 0xff
		}
	}},
	{rule: RuleSurvivors, name: "one_more", err: ErrMalformed, part: "927", change: func(s *surgery) {
		s.put64(keySurvivors, 0, 927)
		s.blob(symName)[16]++
	}},
	{rule: RuleFinite, name: "scale_inf", err: ErrMalformed, part: "0x7c00", change: func(s *surgery) { s.scale(symName, 0x7c00) }},
	{rule: RuleFinite, name: "scale_nan", err: ErrMalformed, part: "0xfe01", change: func(s *surgery) { s.scale(symName, 0xfe01) }},
	{rule: RuleFinite, name: "f16_inf", err: ErrMalformed, part: "0xfc00", change: func(s *surgery) { s.value(f16Name, 0xfc00) }},
	{rule: RuleFinite, name: "bf16_nan", err: ErrMalformed, part: "0x7fc0", change: func(s *surgery) { s.value(bf16Name, 0x7fc0) }},
	{rule: RuleZeroExact, name: "mantissa", err: ErrMalformed, part: "0x3fff", change: func(s *surgery) {
		s.scale(tinyName, 0x3fff)
		s.blob(tinyName)[48+8+2] = 15
	}},
	{rule: RuleZeroExact, name: "overflow", err: ErrMalformed, part: "0x7800", change: func(s *surgery) {
		s.scale(tinyName, 0x7800)
		s.blob(tinyName)[48+8+2] = 15
	}},
	{rule: RuleUnusedBits, name: "tables", err: ErrMalformed, part: "before the first tile", change: func(s *surgery) { s.blob(tinyName)[47] = 1 }},
	{rule: RuleUnusedBits, name: "zeros", err: ErrMalformed, part: "last zero code", change: func(s *surgery) { s.blob(tinyName)[48+8+2] |= 0x10 }},
	{rule: RuleUnusedBits, name: "plane", err: ErrMalformed, part: "plane that has ended", change: func(s *surgery) { s.blob(tinyName)[48+8+2+1] |= 0x10 }},
	{rule: RuleUnusedBits, name: "tile", err: ErrMalformed, part: "after a tile", change: func(s *surgery) { s.blob(tinyName)[144-64-1] = 1 }},
	{rule: RuleUnusedBits, name: "tail", err: ErrMalformed, part: "after the last tile", change: func(s *surgery) { s.blob(bf16Name)[1424-64] = 1 }},
	{rule: RuleBlobSum, name: "table", err: ErrChecksum, part: "found", change: func(s *surgery) { s.put64(keyBlobSum, 2, 1) }},
	{rule: RuleExpandedSum, name: "table", err: ErrChecksum, part: "found", change: func(s *surgery) { s.put64(keyExpandedSum, 3, 1) }},
	{rule: RuleExpandedSum, name: "code", err: ErrChecksum, part: "found", change: func(s *surgery) { s.blob(tinyName)[48+8+2+1] ^= 1 }},
}

// scale replaces the first scale of the first tile.
func (s *surgery) scale(name string, v uint16) {
	r := s.reader(name)
	le.PutUint16(r.blob[r.firstTile()+uint64(r.maskBytes(r.tileRows(0))):], v)
}

// value replaces the first 16-bit survivor.
func (s *surgery) value(name string, v uint16) {
	r := s.reader(name)
	le.PutUint16(r.blob[r.firstTile()+uint64(r.maskBytes(r.tileRows(0))):], v)
}

func (s *surgery) reader(name string) *Reader {
	f := mustOpen(s.t, vectorFile)
	_, info, _ := f.Rows(name)
	r, err := NewReader(s.blob(name), info)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// tensorEnd is where the data of a tensor of the vector ends.
func tensorEnd(name string) int {
	g, err := gguf.Open(vectorFile)
	if err != nil {
		panic(err)
	}
	defer g.Close()
	t, _ := g.Tensor(name)
	return int(g.DataOffset() + t.Offset + t.Bytes)
}

func setByte(b []byte, at int, v byte) []byte {
	b[at] = v
	return b
}

func TestVerifyRejects(t *testing.T) {
	texts := map[string]string{}
	for _, c := range slices.Concat(contentCases, chunkCases) {
		t.Run(fmt.Sprintf("%v_%s", c.rule, c.name), func(t *testing.T) {
			s := c.surgery(t)
			if c.change != nil {
				c.change(s)
				if c.rule != RuleBlobSum {
					s.signBlobs()
				}
			}
			path := s.write()
			if c.bytes != nil {
				if err := os.WriteFile(path, c.bytes(mustRead(t, path)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			f := mustOpen(t, path)
			verifyFails(t, path, c.rule)
			_, err := Verify(context.Background(), path)
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("Verify: %v, want %v and %q", err, c.err, c.part)
			}
			texts[fmt.Sprintf("%v_%s", c.rule, c.name)] = strings.ReplaceAll(err.Error(), path, "FILE")
			expandIsSafe(t, f, c.rule)
		})
	}
	golden.Lines(t, "testdata/verify.errors.txt", *update, texts)
}

// expandIsSafe checks that a damaged file expands to an error and nothing
// else, unless the damage does not touch the expansion: then it is exact.
func expandIsSafe(t *testing.T, f *File, rule Rule) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "expanded.gguf")
	err := f.ExpandTo(context.Background(), path, nil)
	left, dirErr := os.ReadDir(dir)
	if dirErr != nil {
		t.Fatal(dirErr)
	}
	harmless := rule == RulePadding || rule == RuleUnusedBits || rule == RuleSurvivors || rule == RuleBlobSum
	switch {
	case harmless && err != nil:
		t.Errorf("ExpandTo: %v", err)
	case harmless && sha(t, path) != expandedSHA(t):
		t.Error("ExpandTo wrote wrong weights")
	case !harmless && (err == nil || len(left) != 0):
		t.Errorf("ExpandTo: %v, leaving %v", err, left)
	}
}

func expandedSHA(t *testing.T) string {
	t.Helper()
	for _, row := range specTable(t, "file", "bytes") {
		if row[0] == vectorFile {
			return row[4]
		}
	}
	t.Fatal("SPEC.md does not give the hash of the expansion")
	return ""
}

// TestEveryRuleIsTested keeps the cases complete.
func TestEveryRuleIsTested(t *testing.T) {
	seen := map[Rule]bool{}
	for _, c := range slices.Concat(fileCases, chunkTableCases, contentCases, chunkCases) {
		seen[c.rule] = true
	}
	for r := range Rules() {
		if !seen[r] {
			t.Errorf("no case breaks rule %v", r)
		}
	}
}

// TestTruncated cuts the vector at every length.
func TestTruncated(t *testing.T) {
	for _, vector := range []string{vectorFile, packedVectorFile} {
		t.Run(filepath.Base(vector), func(t *testing.T) { truncated(t, vector) })
	}
}

func truncated(t *testing.T, vector string) {
	data := mustRead(t, vector)
	path := filepath.Join(t.TempDir(), "cut.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for n := len(data) - 1; n >= 0; n -= 13 {
		if err := os.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		if report, err := Verify(context.Background(), path); err == nil || report.OK() {
			t.Errorf("the first %d bytes pass", n)
		}
	}
}

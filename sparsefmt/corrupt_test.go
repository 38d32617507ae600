package sparsefmt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/golden"
)

// brokenFile breaks one rule and nothing else.
type brokenFile struct {
	rule   Rule
	name   string
	err    error                 // the sentinel
	part   string                // of the message
	packed bool                  // the packed vector, not the plain one
	change func(s *surgery)      // before the file is put together, or
	bytes  func(b []byte) []byte // after that
}

var le = binary.LittleEndian

// fileCases are those that the header and the table show: Open fails.
var fileCases = []brokenFile{
	{rule: RuleVersion, name: "newer", err: ErrVersion, part: "format version 3", change: func(s *surgery) { s.set(keyVersion, uint32(3)) }},
	{rule: RuleVersion, name: "zero", err: ErrMalformed, part: "format version 0", change: func(s *surgery) { s.set(keyVersion, uint32(0)) }},
	{rule: RuleVersion, name: "type", err: ErrMalformed, part: "not uint32", change: func(s *surgery) { s.set(keyVersion, uint64(1)) }},
	{rule: RuleLayout, name: "newer", err: ErrVersion, part: `layout "dense"`, change: func(s *surgery) { s.set(keyLayout, "dense") }},
	{rule: RuleLayout, name: "missing", err: ErrMalformed, part: "missing", change: func(s *surgery) { s.remove(keyLayout) }},
	{rule: RuleLayout, name: "type", err: ErrMalformed, part: "no string", change: func(s *surgery) { s.set(keyLayout, uint32(1)) }},
	{rule: RuleKeys, name: "missing", err: ErrMalformed, part: keySurvivors + " is missing", change: func(s *surgery) { s.remove(keySurvivors) }},
	{rule: RuleKeys, name: "scalar", err: ErrMalformed, part: keyGroup + " has type uint32", change: func(s *surgery) { s.set(keyGroup, uint32(64)) }},
	{rule: RuleKeys, name: "element", err: ErrMalformed, part: "array of int32", change: func(s *surgery) { s.set(keyDims, []int32{2, 2, 3, 2, 2, 2, 2}) }},
	{rule: RuleKeys, name: "optional_type", err: ErrMalformed, part: keyFileType + " has type string", change: func(s *surgery) { s.set(keyFileType, "Q4_0") }},
	{rule: RuleKeys, name: "reserved", err: ErrMalformed, part: `"besa.tensors.colour"`, change: func(s *surgery) { s.set("besa.tensors.colour", "red") }},
	{rule: RuleKeys, name: "expand_key", err: ErrMalformed, part: `"besa.expand.name"`, change: func(s *surgery) { s.set("besa.expand.name", "x") }},
	{rule: RuleKeys, name: "short_column", err: ErrMalformed, part: "has 4 entries", change: func(s *surgery) { s.set(keyCoding, []uint32{1, 2, 3, 4}) }},
	{rule: RuleKeys, name: "long_shape", err: ErrMalformed, part: "longer", change: func(s *surgery) {
		s.set(keyShape, []uint64{96, 21, 160, 16, 33, 3, 6, 65, 17, 32, 1, 64, 19, 96, 64, 1})
	}},
	{rule: RuleKeys, name: "short_shape", err: ErrMalformed, part: "shorter", change: func(s *surgery) {
		s.set(keyShape, []uint64{96, 21, 160, 16, 33, 3, 6, 65, 17, 32, 1, 64, 19, 96})
	}},
	{rule: RuleNames, name: "other_name", err: ErrMalformed, part: "in its place", change: func(s *surgery) { s.names(1, "blk.0.ffn_uq.weight") }},
	{rule: RuleNames, name: "empty_name", err: ErrMalformed, part: "0 bytes", change: func(s *surgery) { s.names(1, "") }},
	{rule: RuleNames, name: "long_name", err: ErrMalformed, part: "59 bytes", change: func(s *surgery) { s.names(1, strings.Repeat("x", 59)) }},
	{rule: RuleNames, name: "order", err: ErrMalformed, part: "in its place", change: func(s *surgery) {
		s.set(keyName, []string{asymName, symName, f16Name, bf16Name, tinyName, q8Name, skewName})
		s.put64(keyShape, 0, 160)
		s.put64(keyShape, 2, 96)
		s.put32(keyType, 0, 3)
		s.put32(keyType, 1, 2)
		s.put32(keyCoding, 0, 2)
		s.put32(keyCoding, 1, 1)
	}},
	{rule: RuleNames, name: "dense_twin", err: ErrMalformed, part: "two tensors", change: func(s *surgery) { s.rename("output_norm.weight", symName) }},
	{rule: RuleNames, name: "not_in_table", err: ErrMalformed, part: "8 tensors", change: func(s *surgery) { s.rename("output_norm.weight", "output_norm.besa") }},
	{rule: RuleNames, name: "not_in_file", err: ErrMalformed, part: "6 tensors", change: func(s *surgery) { s.rename(tinyName+Suffix, "plain.weight") }},
	{rule: RuleNames, name: "blob_type", err: ErrMalformed, part: "type I16", change: func(s *surgery) { s.retype(tinyName, gguf.I16, 72) }},
	{rule: RuleNames, name: "blob_dims", err: ErrMalformed, part: "shape [72 2]", change: func(s *surgery) { s.retype(tinyName, gguf.I8, 72, 2) }},
	{rule: RuleShape, name: "coding", err: ErrMalformed, part: "coding(9)", change: func(s *surgery) { s.put32(keyCoding, 0, 9) }},
	{rule: RuleShape, name: "coding_wide", err: ErrMalformed, part: "coding(0)", change: func(s *surgery) { s.put32(keyCoding, 0, 257) }},
	{rule: RuleShape, name: "newer_coding", err: ErrMalformed, part: "coding q8_sym came with format version 2, the file has 1", change: func(s *surgery) { s.set(keyVersion, uint32(1)) }},
	{rule: RuleShape, name: "type", err: ErrMalformed, part: "expands to Q4_0", change: func(s *surgery) { s.put32(keyType, 0, 3) }},
	{rule: RuleShape, name: "group", err: ErrMalformed, part: "group size 48", change: func(s *surgery) { s.put32(keyGroup, 0, 48) }},
	{rule: RuleShape, name: "group_of_values", err: ErrMalformed, part: "must be 0", change: func(s *surgery) { s.put32(keyGroup, 2, 64) }},
	{rule: RuleShape, name: "no_dims", err: ErrMalformed, part: "0 dimensions", change: func(s *surgery) { s.put32(keyDims, 0, 0) }},
	{rule: RuleShape, name: "five_dims", err: ErrMalformed, part: "5 dimensions", change: func(s *surgery) { s.put32(keyDims, 0, 5) }},
	{rule: RuleShape, name: "columns", err: ErrMalformed, part: "multiple of 32", change: func(s *surgery) { s.put64(keyShape, 0, 95) }},
	{rule: RuleShape, name: "zero", err: ErrMalformed, part: "0 rows", change: func(s *surgery) { s.put64(keyShape, 1, 0) }},
	{rule: RuleShape, name: "overflow", err: ErrMalformed, part: "rows", change: func(s *surgery) {
		s.put64(keyShape, 5, 1<<32)
		s.put64(keyShape, 6, 1<<32)
	}},
	{rule: RuleShape, name: "survivors", err: ErrMalformed, part: "2017 survivors", change: func(s *surgery) { s.put64(keySurvivors, 0, 96*21+1) }},
	{rule: RuleDenseTable, name: "short", err: ErrMalformed, part: "has 2 entries", change: func(s *surgery) { s.set(keyDenseSum, []uint64{1, 2}) }},
	{rule: RuleDenseTable, name: "long", err: ErrMalformed, part: "has 4 entries", change: func(s *surgery) { s.set(keyDenseSum, []uint64{1, 2, 3, 4}) }},
	{rule: RuleHeaderSum, name: "not_last", err: ErrMalformed, part: "last key", change: func(s *surgery) {
		s.kvs = append(s.kvs, gguf.MustKV("besa.note", "x"))
	}},
	{rule: RuleHeaderSum, name: "wrong", err: ErrChecksum, part: "found", bytes: func(b []byte) []byte {
		return slices.Replace(b, 40, 40+5, []byte("LLAMA")...)
	}},
	{rule: RuleContainer, name: "truncated", err: gguf.ErrTruncated, part: "", bytes: func(b []byte) []byte { return b[:len(b)/2] }},
	{rule: RuleContainer, name: "version_2", err: ErrMalformed, part: "GGUF version 2", bytes: func(b []byte) []byte {
		b[4] = 2
		return b
	}},
	{rule: RuleBlobHeader, name: "magic", err: ErrMalformed, part: "magic", change: func(s *surgery) { s.blob(symName)[0] = 'b' }},
	{rule: RuleBlobHeader, name: "layout", err: ErrMalformed, part: "layout byte", change: func(s *surgery) { s.blob(symName)[4] = 2 }},
	{rule: RuleBlobHeader, name: "coding", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[5] = 2 }},
	{rule: RuleBlobHeader, name: "group", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[6] = 32 }},
	{rule: RuleBlobHeader, name: "cols", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[8] = 64 }},
	{rule: RuleBlobHeader, name: "rows", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[12]++ }},
	{rule: RuleBlobHeader, name: "survivors", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[16]++ }},
	{rule: RuleBlobHeader, name: "size", err: ErrMalformed, part: "header says", change: func(s *surgery) { s.blob(symName)[24]++ }},
	{rule: RuleBlobHeader, name: "short", err: ErrMalformed, part: "31 bytes", change: func(s *surgery) { s.resize(tinyName, 31) }},
	{rule: RuleTileOffsets, name: "too_small", err: ErrMalformed, part: "at least", change: func(s *surgery) {
		s.resize(symName, 128)
		le.PutUint64(s.blob(symName)[24:], 128)
	}},
	{rule: RuleTileOffsets, name: "first", err: ErrMalformed, part: "first tile", change: func(s *surgery) { s.blob(symName)[32]++ }},
	{rule: RuleTileOffsets, name: "descending", err: ErrMalformed, part: "too short", change: func(s *surgery) { le.PutUint32(s.blob(symName)[36:], 1) }},
	{rule: RuleTileOffsets, name: "beyond", err: ErrMalformed, part: "too short", change: func(s *surgery) { le.PutUint32(s.blob(symName)[36:], 1<<32-1) }},
	{rule: RuleTileOffsets, name: "end", err: ErrMalformed, part: "before the end", change: func(s *surgery) {
		s.resize(symName, len(s.blob(symName))+8)
		le.PutUint64(s.blob(symName)[24:], uint64(len(s.blob(symName))))
	}},
	{rule: RuleTileOffsets, name: "halves", err: ErrMalformed, part: "halves", change: func(s *surgery) { le.PutUint16(s.blob(symName)[44:], 0x1ff) }},
	{rule: RuleTileOffsets, name: "halves_beyond", err: ErrMalformed, part: "halves", change: func(s *surgery) { le.PutUint16(s.blob(symName)[46:], 0x21) }},
}

// names replaces a name in the table.
func (s *surgery) names(i int, name string) {
	names := slices.Clone(prunedNames)
	names[i] = name
	s.set(keyName, names)
}

func (s *surgery) rename(from, to string) {
	for i := range s.tensors {
		if s.tensors[i].Name == from {
			s.tensors[i].Name, s.data[to] = to, s.data[from]
			return
		}
	}
	s.t.Fatalf("no tensor %s", from)
}

func (s *surgery) retype(name string, typ gguf.Type, shape ...uint64) {
	for i := range s.tensors {
		if s.tensors[i].Name == name+Suffix {
			s.tensors[i].Type, s.tensors[i].Shape = typ, shape
		}
	}
}

// resize cuts a blob or appends zeros to it.
func (s *surgery) resize(name string, size int) {
	b := s.blob(name)
	b = append(b[:min(size, len(b)):min(size, len(b))], make([]byte, max(0, size-len(b)))...)
	s.data[name+Suffix] = b
	s.retype(name, gguf.I8, uint64(size))
}

func (c *brokenFile) surgery(t testing.TB) *surgery {
	if c.packed {
		return surgeryOn(t, packedVectorFile)
	}
	return newSurgery(t)
}

func (c *brokenFile) write(t *testing.T) string {
	s := c.surgery(t)
	if c.change != nil {
		c.change(s)
		s.signBlobs()
	}
	path := s.write()
	if c.bytes != nil {
		if err := os.WriteFile(path, c.bytes(mustRead(t, path)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestOpenRejects(t *testing.T) {
	texts := map[string]string{}
	for _, c := range slices.Concat(fileCases, chunkTableCases) {
		t.Run(fmt.Sprintf("%v_%s", c.rule, c.name), func(t *testing.T) {
			path := c.write(t)
			f, err := Open(path)
			if f != nil {
				t.Error("a failed Open returned a file")
			}
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.part) {
				t.Fatalf("Open: %v, want %v and %q", err, c.err, c.part)
			}
			texts[fmt.Sprintf("%v_%s", c.rule, c.name)] = strings.ReplaceAll(err.Error(), path, "FILE")
			var re *RuleError
			if errors.As(err, &re) && re.Rule != c.rule || re == nil && c.rule != RuleContainer {
				t.Errorf("Open: %v, want rule %v", err, c.rule)
			}
			verifyFails(t, path, c.rule)
		})
	}
	golden.Lines(t, "testdata/open.errors.txt", *update, texts)
}

// verifyFails checks that Verify reports a violation of just that rule.
func verifyFails(t *testing.T, path string, rule Rule) {
	t.Helper()
	report, err := Verify(context.Background(), path)
	if err == nil || report.OK() {
		t.Fatal("Verify passed the file")
	}
	for _, f := range report.Failures {
		if f.Rule != rule {
			t.Errorf("Verify: %+v, want rule %v only", f, rule)
		}
	}
	if len(report.Failures) == 0 {
		t.Errorf("Verify: %v, and no failure in the report", err)
	}
}

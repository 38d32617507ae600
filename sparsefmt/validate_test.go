package sparsefmt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/kernel"
)

func TestEncodeRefuses(t *testing.T) {
	sym := func() *Matrix { return &Matrix{Rows: 3, Cols: 96, Coding: CodingQ4Sym, Group: 64} }
	asym := func() *Matrix { return &Matrix{Rows: 3, Cols: 96, Coding: CodingQ4Asym, Group: 32} }
	f16 := func() *Matrix { return &Matrix{Rows: 3, Cols: 65, Coding: CodingF16} }
	bf16 := func() *Matrix { return &Matrix{Rows: 3, Cols: 65, Coding: CodingBF16} }
	cases := []struct {
		name   string
		m      *Matrix
		change func(m *Matrix)
		part   string
	}{
		{"no_rows", sym(), func(m *Matrix) { m.Rows = 0 }, "0 rows"},
		{"no_columns", sym(), func(m *Matrix) { m.Cols = 0 }, "0 columns"},
		{"negative", sym(), func(m *Matrix) { m.Rows = -1 }, "-1×96"},
		{"huge", sym(), func(m *Matrix) { m.Cols = 1 << 40 }, "columns"},
		{"coding", sym(), func(m *Matrix) { m.Coding = 0 }, "unknown coding(0)"},
		{"group", sym(), func(m *Matrix) { m.Group = 0 }, "group size 0"},
		{"group_of_values", f16(), func(m *Matrix) { m.Group = 64 }, "must be 0"},
		{"columns", sym(), func(m *Matrix) { m.Cols = 95 }, "multiple of 32"},
		{"mask", sym(), func(m *Matrix) { m.Mask = m.Mask[1:] }, "mask: 5 entries"},
		{"codes", sym(), func(m *Matrix) { m.Codes = nil }, "codes: 0 entries"},
		{"scales", sym(), func(m *Matrix) { m.Scales = append(m.Scales, 0) }, "scales: 7 entries"},
		{"zeros_of_sym", sym(), func(m *Matrix) { m.Zeros = make([]uint8, 6) }, "zeros: 6 entries"},
		{"zeros", asym(), func(m *Matrix) { m.Zeros = nil }, "zeros: 0 entries"},
		{"values", f16(), func(m *Matrix) { m.Values = nil }, "values: 0 entries"},
		{"codes_of_values", f16(), func(m *Matrix) { m.Codes = make([]uint8, 1) }, "codes: 1 entries"},
		{"tail", f16(), func(m *Matrix) { m.Mask[3] |= 4 }, "row 1: mask bits"},
		{"code", sym(), func(m *Matrix) { m.Codes[96] = 16 }, "row 1: column 0: code 16"},
		{"zero", asym(), func(m *Matrix) { m.Zeros[4] = 16 }, "row 1: group 1: zero code 16"},
		{"inexact", asym(), func(m *Matrix) { m.Scales[8], m.Zeros[8] = 0x3fff, 3 }, "row 2: group 2: zero point"},
		{"overflow", asym(), func(m *Matrix) { m.Scales[8], m.Zeros[8] = 0x7800, 3 }, "row 2: group 2: zero point"},
		{"inf", sym(), func(m *Matrix) { m.Scales[1] = 0xfc00 }, "row 0: group 1: scale 0xfc00"},
		{"nan", f16(), func(m *Matrix) { m.Values[65] = 0x7e00 }, "row 1: column 0: value 0x7e00"},
		{"bf16_inf", bf16(), func(m *Matrix) { m.Values[65] = 0xff80 }, "row 1: column 0: value 0xff80"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fillMatrix(c.m, 3, func(int) float64 { return 1 })
			if _, err := Encode(c.m); err != nil {
				t.Fatal(err)
			}
			c.change(c.m)
			_, err := Encode(c.m)
			if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("%v, want %q", err, c.part)
			}
			if (c.name == "inexact" || c.name == "overflow") != errors.Is(err, ErrInexactZero) {
				t.Errorf("%v: ErrInexactZero or not", err)
			}
		})
	}
}

// TestPrunedEntriesDoNotMatter: codes and values under a clear mask bit may be
// anything; Decode returns them in canonical form.
func TestPrunedEntriesDoNotMatter(t *testing.T) {
	for _, c := range Codings() {
		m := &Matrix{Rows: 18, Cols: 96, Coding: c}
		if c.Quantised() {
			m.Group = 64
		}
		fillMatrix(m, 5, func(int) float64 { return 0.5 })
		blob, info, err := EncodeTensor("x", []uint64{96, 18}, m)
		if err != nil {
			t.Fatal(err)
		}
		dirty := *m
		dirty.Codes, dirty.Values = append([]uint8{}, m.Codes...), append([]uint16{}, m.Values...)
		for i := range 18 {
			for j := range 96 {
				if m.Kept(i, j) {
					continue
				}
				if c.Quantised() {
					dirty.Codes[i*96+j] = 254
				} else {
					dirty.Values[i*96+j] = 0x7fff
				}
			}
		}
		again, _, err := EncodeTensor("x", []uint64{96, 18}, &dirty)
		if err != nil || string(again) != string(blob) {
			t.Errorf("%v: pruned entries change the blob (%v)", c, err)
		}
		got, err := Decode(blob, info)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v: the decoded matrix is not canonical (%v)", c, err)
		}
	}
}

// TestMinimum compares every scale and zero code with float arithmetic: a
// product has at most 15 significant bits, so float32 holds it exactly.
func TestAsymMin(t *testing.T) {
	for scale := range 1 << 16 {
		if scale&f16ExpMask == f16ExpMask {
			continue
		}
		for zero := range uint8(16) {
			p := -float32(zero) * gguf.F16ToF32(uint16(scale))
			want := gguf.F32ToF16(p)
			exact := gguf.F16ToF32(want) == p
			if p == 0 {
				want = 0
			}
			if got, ok := kernel.Minimum(uint16(scale), zero); ok != exact || ok && got != want {
				t.Fatalf("scale %#04x, zero %d: %#04x, %v, want %#04x, %v", scale, zero, got, ok, want, exact)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	m := &Matrix{Rows: 18, Cols: 96, Coding: CodingQ4Sym, Group: 64}
	fillMatrix(m, 5, func(int) float64 { return 0.5 })
	blob, info, err := EncodeTensor("x", []uint64{96, 18}, m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ r0, r1, bytes int }{{-1, 1, 108}, {0, 19, 19 * 54}, {2, 1, 0}, {0, 1, 53}, {0, 1, 55}} {
		if err := ExpandRows(blob, info, c.r0, c.r1, make([]byte, c.bytes)); err == nil {
			t.Errorf("rows %d to %d into %d bytes are accepted", c.r0, c.r1, c.bytes)
		}
	}
	if err := m.ExpandRow(18, make([]byte, 54)); err == nil {
		t.Error("row 18 of 18 is accepted")
	}
	if err := m.ExpandRow(0, make([]byte, 53)); err == nil {
		t.Error("a short row is accepted")
	}
	if err := m.Floats(0, make([]float32, 95)); err == nil {
		t.Error("a short row of floats is accepted")
	}
}

// TestInfoJSON: what a journal keeps comes back.
func TestInfoJSON(t *testing.T) {
	want := TensorInfo{
		Name: "x", Shape: []uint64{32, 2, 3}, Coding: CodingQ4Asym, Group: 32,
		Survivors: 7, BlobBytes: 200, BlobSum: 1<<64 - 1, ExpandedSum: 1<<63 + 1,
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got TensorInfo
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s comes back as %+v (%v)", b, got, err)
	}
	if err := json.Unmarshal([]byte(`{"coding":"q5"}`), &got); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown coding: %v", err)
	}
	if _, err := json.Marshal(TensorInfo{}); err == nil {
		t.Error("a TensorInfo without a coding was written")
	}
}

func TestVerifyReport(t *testing.T) {
	report, err := Verify(context.Background(), packedVectorFile)
	if err != nil || !report.OK() {
		t.Fatalf("%v, %+v", err, report)
	}
	seen := map[Rule]bool{}
	for _, c := range report.Checks {
		seen[c.Rule] = true
		if c.Count == 0 || c.Failed != 0 {
			t.Errorf("%+v", c)
		}
	}
	for r := range Rules() {
		if !seen[r] {
			t.Errorf("rule %v is not in the report", r)
		}
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || strings.Count(text.String(), "\n") != len(Rules()) {
		t.Errorf("the text is\n%s", text.String())
	}
	b, err := json.Marshal(report)
	if err != nil || !strings.Contains(string(b), `"rule":"R7"`) {
		t.Errorf("the JSON is %s (%v)", b, err)
	}
	source, _ := newTestModel().sparse(t)
	if _, err := Verify(context.Background(), source); !errors.Is(err, ErrNotSparse) {
		t.Errorf("an ordinary file: %v", err)
	}
	if _, err := Verify(context.Background(), source+".none"); err == nil {
		t.Error("a file that is not there passes")
	}
	broken := Report{Failures: []Failure{{Rule: RuleBlobSum, Tensor: "x", Detail: "d"}}}
	text.Reset()
	if err := broken.WriteText(&text); err != nil || text.String() != fmt.Sprintf("R19: tensor %q: d\n", "x") {
		t.Errorf("the text is %q", text.String())
	}
}

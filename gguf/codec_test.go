package gguf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The goldens under testdata/codec were made by llama.cpp's own library, see
// testdata/make_goldens.py.

const goldenRow = 256 // weights per row of input.f32

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "codec", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func floatsOf(b []byte) []float32 {
	x := make([]float32, len(b)/4)
	dequantizeF32(x, b)
	return x
}

// goldenInput returns the nasty rows and what each is about.
func goldenInput(t testing.TB) (names []string, x []float32) {
	t.Helper()
	if err := json.Unmarshal(readGolden(t, "input.json"), &names); err != nil {
		t.Fatal(err)
	}
	x = floatsOf(readGolden(t, "input.f32"))
	if len(names) == 0 || len(x) != len(names)*goldenRow {
		t.Fatalf("%d weights for %d rows", len(x), len(names))
	}
	return names, x
}

func TestQuantizeIsGgmlsBitForBit(t *testing.T) {
	names, x := goldenInput(t)
	for _, typ := range []Type{F16, BF16, Q4_0, Q4_1, Q8_0} {
		t.Run(typ.String(), func(t *testing.T) {
			want := readGolden(t, typ.String()+".quantized")
			row, err := typ.RowBytes(goldenRow)
			if err != nil {
				t.Fatal(err)
			}
			if len(want) != len(names)*int(row) {
				t.Fatalf("golden has %d bytes for %d rows", len(want), len(names))
			}
			got := make([]byte, len(want))
			if err := Quantize(typ, got, x); err != nil {
				t.Fatal(err)
			}
			size := typ.BlockBytes()
			for i := 0; i < len(want); i += size {
				if !bytes.Equal(got[i:i+size], want[i:i+size]) {
					t.Fatalf("row %q, block at byte %d: got %x, want %x", names[i/int(row)], i%int(row), got[i:i+size], want[i:i+size])
				}
			}
		})
	}
}

func TestQuantizeF32Copies(t *testing.T) {
	want := readGolden(t, "input.f32")
	got := make([]byte, len(want))
	if err := Quantize(F32, got, floatsOf(want)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("F32 is not copied bit for bit")
	}
}

func TestDequantizeIsGgmlsBitForBit(t *testing.T) {
	count := 0
	for typ := range Type(len(types)) {
		if !typ.CanDequantize() || typ == F32 {
			continue
		}
		count++
		t.Run(typ.String(), func(t *testing.T) {
			blocks, want := readGolden(t, typ.String()+".blocks"), floatsOf(readGolden(t, typ.String()+".f32"))
			got := make([]float32, len(want))
			if err := Dequantize(typ, got, blocks); err != nil {
				t.Fatal(err)
			}
			nans := 0
			for i := range want {
				if want[i] != want[i] && got[i] != got[i] {
					nans++ // of two NaN the machine may pass on either
				} else if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("weight %d: got %x, want %x", i, got[i], want[i])
				}
			}
			if nans > len(want)/4 {
				t.Errorf("%d of %d weights are NaN: the golden tests little", nans, len(want))
			}
		})
	}
	if count != 12 {
		t.Errorf("%d types tested", count)
	}
}

// TestHalvesAreGgmls compares all conversions from 16 bits, and those of
// 1,049,344 float32 patterns, by their digests.
func TestHalvesAreGgmls(t *testing.T) {
	var want map[string]string
	if err := json.Unmarshal(readGolden(t, "halves.json"), &want); err != nil {
		t.Fatal(err)
	}
	toSingle := func(convert func(uint16) float32) string {
		sum := sha256.New()
		var b [4]byte
		for h := range 1 << 16 {
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(convert(uint16(h))))
			sum.Write(b[:])
		}
		return hex.EncodeToString(sum.Sum(nil))
	}
	toHalf := func(convert func(float32) uint16) string {
		sum := sha256.New()
		var b [2]byte
		for w := uint64(0); w < 1<<32; w += 4093 {
			binary.LittleEndian.PutUint16(b[:], convert(math.Float32frombits(uint32(w))))
			sum.Write(b[:])
		}
		return hex.EncodeToString(sum.Sum(nil))
	}
	for name, got := range map[string]string{
		"f16_to_f32": toSingle(F16ToF32), "bf16_to_f32": toSingle(BF16ToF32),
		"f32_to_f16": toHalf(F32ToF16), "f32_to_bf16": toHalf(F32ToBF16),
	} {
		if got != want[name] {
			t.Errorf("%s: digest %s, want %s", name, got, want[name])
		}
	}
}

// Every half comes back from its float32, NaN aside.
func TestHalvesRoundTrip(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		if f := F16ToF32(h); f == f && F32ToF16(f) != h {
			t.Fatalf("fp16 %#04x comes back as %#04x", h, F32ToF16(f))
		}
		if f := BF16ToF32(h); f == f && F32ToBF16(f) != h {
			t.Fatalf("bf16 %#04x comes back as %#04x", h, F32ToBF16(f))
		}
	}
}

func TestCodecRefusesWrongSizes(t *testing.T) {
	for _, c := range []struct {
		t              Type
		weights, bytes int
		unsupported    bool
	}{
		{Q4_0, 32, 17, false}, {Q4_0, 31, 18, false}, {Q4_0, 64, 18, false}, {Q4_0, 33, 19, false},
		{F16, 1, 1, false}, {F32, 1, 8, false}, {Q8_0, 0, 34, false},
		{IQ4_NL, 32, 18, true}, {I8, 1, 1, true}, {Type(4), 0, 0, true}, {Type(1 << 31), 0, 0, true},
	} {
		x, b := make([]float32, c.weights), make([]byte, c.bytes)
		for what, err := range map[string]error{"quantize": Quantize(c.t, b, x), "dequantize": Dequantize(c.t, x, b)} {
			if err == nil || errors.Is(err, ErrUnsupportedType) != c.unsupported {
				t.Errorf("%s %s of %d weights in %d bytes: %v", what, c.t, c.weights, c.bytes, err)
			}
		}
	}
	if err := Quantize(Q6_K, make([]byte, 210), make([]float32, 256)); !errors.Is(err, ErrUnsupportedType) {
		t.Errorf("quantize Q6_K: %v", err)
	}
	if err := Dequantize(Q4_0, nil, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

func BenchmarkDequantize(b *testing.B) {
	for typ := range Type(len(types)) {
		if !typ.CanDequantize() {
			continue
		}
		b.Run(typ.String(), func(b *testing.B) {
			blocks := bytes.Repeat(readGolden(b, typ.String()+".blocks"), 32)
			for i := range blocks { // no half is infinite or subnormal
				blocks[i] &= 0x3b
				blocks[i] |= 0x08
			}
			x := make([]float32, len(blocks)/typ.BlockBytes()*typ.BlockSize())
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				if err := Dequantize(typ, x, blocks); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQuantize(b *testing.B) {
	_, x := goldenInput(b)
	x = x[len(x)-5*goldenRow:] // the ordinary ones
	for len(x) < 1<<16 {
		x = append(x, x...)
	}
	for typ := range Type(len(types)) {
		if !typ.CanQuantize() {
			continue
		}
		b.Run(typ.String(), func(b *testing.B) {
			dst := make([]byte, len(x)/typ.BlockSize()*typ.BlockBytes())
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				if err := Quantize(typ, dst, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

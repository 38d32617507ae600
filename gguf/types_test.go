package gguf

import (
	"errors"
	"math"
	"strings"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"
)

// The table of types agrees with gguf-parser-go's, an independent one.
func TestTypesAgreeWithTheParsers(t *testing.T) {
	live := 0
	for typ := range Type(len(types) + 1) {
		trait, ok := parser.GGMLType(typ).Trait()
		if typ.BlockSize() == 0 {
			// Removed types are in its table: without a size, or by their old one.
			if ok && trait.BlockSize != 0 && !strings.Contains(parser.GGMLType(typ).String(), "_4_") && !strings.Contains(parser.GGMLType(typ).String(), "_8_8") {
				t.Errorf("type %d: the parser knows %v", typ, parser.GGMLType(typ))
			}
			continue
		}
		live++
		if !ok || int(trait.BlockSize) != typ.BlockSize() || int(trait.TypeSize) != typ.BlockBytes() {
			t.Errorf("%s: %d weights in %d bytes, the parser has %+v", typ, typ.BlockSize(), typ.BlockBytes(), trait)
		}
		if name := parser.GGMLType(typ).String(); !strings.EqualFold(name, typ.String()) {
			t.Errorf("type %d: %s, the parser calls it %s", uint32(typ), typ, name)
		}
		if back, err := ParseType(strings.ToLower(typ.String())); err != nil || back != typ {
			t.Errorf("%s comes back as %s, %v", typ, back, err)
		}
	}
	if live != 35 {
		t.Errorf("%d live types", live)
	}
}

func TestParseTypeRefuses(t *testing.T) {
	for _, s := range []string{"", "Q4", "Q4_2", "type 4", "Q4_0 "} {
		if typ, err := ParseType(s); !errors.Is(err, ErrUnsupportedType) {
			t.Errorf("%q: %s, %v", s, typ, err)
		}
	}
}

func TestRowBytes(t *testing.T) {
	for _, c := range []struct {
		t    Type
		cols uint64
		want uint64 // 0: an error
	}{
		{F32, 5, 20}, {F16, 5, 10}, {Q4_0, 64, 36}, {Q6_K, 512, 420}, {Q4_0, 0, 0},
		{Q4_0, 33, 0}, {Type(5), 32, 0}, {F32, math.MaxUint64, 0}, {Q8_0, math.MaxUint64 - 31, 0},
	} {
		got, err := c.t.RowBytes(c.cols)
		if got != c.want || (err == nil) != (c.want != 0 || c.cols == 0) {
			t.Errorf("%s, %d weights: %d, %v", c.t, c.cols, got, err)
		}
	}
}

func TestUnknownTypeHasNoBlock(t *testing.T) {
	for _, typ := range []Type{4, 33, 43, math.MaxUint32} {
		if typ.BlockSize() != 0 || typ.BlockBytes() != 0 || typ.CanDequantize() || typ.CanQuantize() || !strings.HasPrefix(typ.String(), "type ") {
			t.Errorf("%s is known", typ)
		}
	}
}

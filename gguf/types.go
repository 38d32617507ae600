package gguf

import (
	"fmt"
	"math/bits"
	"strings"
)

// Type is a ggml tensor type, numbered as in ggml.h.
type Type uint32

// The live ggml types. Numbers that are missing (4, 5, 31–33, 36–38) were
// removed from ggml.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

// typeInfo describes a type: its block, and the codecs where there are any.
// A codec is called with whole blocks only.
type typeInfo struct {
	name       string
	block      int // weights per block
	bytes      int // bytes per block
	dequantize func(dst []float32, src []byte)
	quantize   func(dst []byte, src []float32)
}

// types is the one table of types, indexed by number; removed numbers have an
// empty name.
var types = [...]typeInfo{
	F32:     {"F32", 1, 4, dequantizeF32, quantizeF32},
	F16:     {"F16", 1, 2, dequantizeF16, quantizeF16},
	Q4_0:    {"Q4_0", 32, 18, dequantizeQ4_0, quantizeQ4_0},
	Q4_1:    {"Q4_1", 32, 20, dequantizeQ4_1, quantizeQ4_1},
	Q5_0:    {"Q5_0", 32, 22, dequantizeQ5_0, nil},
	Q5_1:    {"Q5_1", 32, 24, dequantizeQ5_1, nil},
	Q8_0:    {"Q8_0", 32, 34, dequantizeQ8_0, quantizeQ8_0},
	Q8_1:    {"Q8_1", 32, 36, nil, nil},
	Q2_K:    {"Q2_K", superBlock, 84, dequantizeQ2_K, nil},
	Q3_K:    {"Q3_K", superBlock, 110, dequantizeQ3_K, nil},
	Q4_K:    {"Q4_K", superBlock, 144, dequantizeQ4_K, nil},
	Q5_K:    {"Q5_K", superBlock, 176, dequantizeQ5_K, nil},
	Q6_K:    {"Q6_K", superBlock, 210, dequantizeQ6_K, nil},
	Q8_K:    {"Q8_K", superBlock, 292, nil, nil},
	IQ2_XXS: {"IQ2_XXS", superBlock, 66, nil, nil},
	IQ2_XS:  {"IQ2_XS", superBlock, 74, nil, nil},
	IQ3_XXS: {"IQ3_XXS", superBlock, 98, nil, nil},
	IQ1_S:   {"IQ1_S", superBlock, 50, nil, nil},
	IQ4_NL:  {"IQ4_NL", 32, 18, nil, nil},
	IQ3_S:   {"IQ3_S", superBlock, 110, nil, nil},
	IQ2_S:   {"IQ2_S", superBlock, 82, nil, nil},
	IQ4_XS:  {"IQ4_XS", superBlock, 136, nil, nil},
	I8:      {"I8", 1, 1, nil, nil},
	I16:     {"I16", 1, 2, nil, nil},
	I32:     {"I32", 1, 4, nil, nil},
	I64:     {"I64", 1, 8, nil, nil},
	F64:     {"F64", 1, 8, nil, nil},
	IQ1_M:   {"IQ1_M", superBlock, 56, nil, nil},
	BF16:    {"BF16", 1, 2, dequantizeBF16, quantizeBF16},
	TQ1_0:   {"TQ1_0", superBlock, 54, nil, nil},
	TQ2_0:   {"TQ2_0", superBlock, 66, nil, nil},
	MXFP4:   {"MXFP4", 32, 17, nil, nil},
	NVFP4:   {"NVFP4", 64, 36, nil, nil},
	Q1_0:    {"Q1_0", 128, 18, nil, nil},
	Q2_0:    {"Q2_0", 64, 18, nil, nil},
}

// superBlock is the number of weights in a block of the K- and IQ-types.
const superBlock = 256

// info returns the table entry, and whether the type is a live one.
func (t Type) info() (typeInfo, bool) {
	if int64(t) >= int64(len(types)) || types[t].name == "" {
		return typeInfo{}, false
	}
	return types[t], true
}

// String returns ggml's name in upper case, "Q4_0", or "type 99".
func (t Type) String() string {
	if info, ok := t.info(); ok {
		return info.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// ParseType returns the type of that name, in any case: "Q4_K", "q4_k".
func ParseType(s string) (Type, error) {
	for i, info := range types {
		if info.name != "" && strings.EqualFold(info.name, s) {
			return Type(i), nil
		}
	}
	return 0, fmt.Errorf("%w %q", ErrUnsupportedType, s)
}

// BlockSize is the number of weights per block, 0 when the type is unknown.
func (t Type) BlockSize() int {
	info, _ := t.info()
	return info.block
}

// BlockBytes is the number of bytes per block, 0 when the type is unknown.
func (t Type) BlockBytes() int {
	info, _ := t.info()
	return info.bytes
}

// CanDequantize reports whether [Dequantize] knows the type.
func (t Type) CanDequantize() bool {
	info, _ := t.info()
	return info.dequantize != nil
}

// CanQuantize reports whether [Quantize] knows the type.
func (t Type) CanQuantize() bool {
	info, _ := t.info()
	return info.quantize != nil
}

// RowBytes is the size of a row of that many weights, which must be a multiple
// of the block size.
func (t Type) RowBytes(cols uint64) (uint64, error) {
	info, ok := t.info()
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrUnsupportedType, t)
	}
	if cols%uint64(info.block) != 0 {
		return 0, fmt.Errorf("row of %d weights is no multiple of the %s block of %d", cols, t, info.block)
	}
	n, ok := mul64(cols/uint64(info.block), uint64(info.bytes))
	if !ok {
		return 0, fmt.Errorf("row of %d weights: size overflows", cols)
	}
	return n, nil
}

// mul64 is a·b and whether it fits.
func mul64(a, b uint64) (uint64, bool) {
	hi, lo := bits.Mul64(a, b)
	return lo, hi == 0
}

package gguf

import "fmt"

// Dequantize converts whole blocks of type t to float32. The result is the
// same bit for bit as that of ggml's dequantize_row_*: len(src) must be a
// multiple of [Type.BlockBytes] and len(dst) the matching number of weights.
func Dequantize(t Type, dst []float32, src []byte) error {
	info, ok := t.info()
	if !ok || info.dequantize == nil {
		return fmt.Errorf("dequantize: %w: %s", ErrUnsupportedType, t)
	}
	if len(src)%info.bytes != 0 || len(src)/info.bytes != len(dst)/info.block || len(dst)%info.block != 0 {
		return fmt.Errorf("dequantize %s: %d bytes do not hold %d weights", t, len(src), len(dst))
	}
	info.dequantize(dst, src)
	return nil
}

// Quantize converts float32 to whole blocks of type t: F32, F16, BF16, Q4_0,
// Q4_1 or Q8_0. The result is the same bit for bit as that of ggml's
// quantize_row_*_ref on x86-64, for any input: where a code does not fit its
// integer, because the input holds NaN or infinities or because the
// reciprocal of a subnormal scale overflows, it is 0, which is what the
// conversion instruction of that machine yields. len(src) must be a multiple
// of [Type.BlockSize] and len(dst) the matching number of bytes.
func Quantize(t Type, dst []byte, src []float32) error {
	info, ok := t.info()
	if !ok || info.quantize == nil {
		return fmt.Errorf("quantize: %w: %s", ErrUnsupportedType, t)
	}
	if len(src)%info.block != 0 || len(src)/info.block != len(dst)/info.bytes || len(dst)%info.bytes != 0 {
		return fmt.Errorf("quantize %s: %d weights do not fill %d bytes", t, len(src), len(dst))
	}
	info.quantize(dst, src)
	return nil
}

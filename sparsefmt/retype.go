package sparsefmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"besa/gguf"
	"besa/internal/kernel"
)

// ErrInexact says that a type that a tensor was to be expanded to does not hold its
// values exactly.
var ErrInexact = errors.New("not exact in that type")

// ExpandTypes are the types that ExpandOptions.Type may name.
func ExpandTypes() []gguf.Type {
	return []gguf.Type{gguf.Q4_0, gguf.Q4_1, gguf.Q8_0, gguf.F16, gguf.F32}
}

// retyper writes expanded rows in another type, with the very same values.
// There is no rounding: what the type does not hold is an error. Zeros lose
// their sign where codes become floats or other codes.
type retyper struct {
	from, to gguf.Type
	// block converts one block of from, and floats 32 weights if to is a float
	// type; one of them is set.
	block  func(dst, src []byte) bool
	floats func(dst []byte, src []float32) bool
}

// blockRetypers are the conversions between quantised types. Where they fail
// depends on the codes.
var blockRetypers = map[[2]gguf.Type]func(dst, src []byte) bool{
	{gguf.Q4_0, gguf.Q4_1}: q40ToQ41,
	{gguf.Q4_0, gguf.Q8_0}: q40ToQ80,
	{gguf.Q4_1, gguf.Q4_0}: q41ToQ40,
	{gguf.Q4_1, gguf.Q8_0}: q41ToQ80,
	{gguf.Q8_0, gguf.Q4_0}: q80ToQ40,
	{gguf.Q8_0, gguf.Q4_1}: q80ToQ41,
}

// newRetyper returns nil where nothing has to be done.
func newRetyper(from, to gguf.Type) (*retyper, error) {
	if !slices.Contains(ExpandTypes(), to) {
		return nil, fmt.Errorf("%w: cannot expand to %v", ErrUnsupported, to)
	}
	r := &retyper{from: from, to: to, block: blockRetypers[[2]gguf.Type{from, to}]}
	switch {
	case from == to:
		return nil, nil
	case r.block != nil:
	case to == gguf.F16:
		r.floats = floatsToF16
	case to == gguf.F32:
		r.floats = floatsToF32
	default:
		return nil, fmt.Errorf("%w: its survivors are %v values, %v would round them: expand to native or f32", ErrInexact, from, to)
	}
	return r, nil
}

// rows converts whole rows.
func (r *retyper) rows(dst *[]byte, src []byte) error {
	blocks := len(src) / r.from.BlockBytes()
	out := resize(dst, blocks*r.from.BlockSize()/r.to.BlockSize()*r.to.BlockBytes())
	ok := true
	if r.floats != nil {
		values := make([]float32, blocks*r.from.BlockSize())
		if err := gguf.Dequantize(r.from, values, src); err != nil {
			return err
		}
		ok = r.floats(out, values)
	} else {
		in, n := r.from.BlockBytes(), r.to.BlockBytes()
		for b := range blocks {
			ok = r.block(out[b*n:(b+1)*n], src[b*in:(b+1)*in]) && ok
		}
	}
	if !ok {
		return r.inexact()
	}
	return nil
}

func (r *retyper) inexact() error {
	return fmt.Errorf("%w: %v does not hold all of its %v values: expand to another type; f32 holds everything", ErrInexact, r.to, r.from)
}

// floatsToF16 fails for values that are no fp16. Zeros are +0.
func floatsToF16(dst []byte, src []float32) bool {
	exact := true
	for j, v := range src {
		h := gguf.F32ToF16(v + 0) // -0 + 0 is +0
		exact = exact && gguf.F16ToF32(h) == v
		binary.LittleEndian.PutUint16(dst[2*j:], h)
	}
	return exact
}

func floatsToF32(dst []byte, src []float32) bool {
	_ = gguf.Quantize(gguf.F32, dst, src) // the lengths are right
	return true
}

// q40ToQ41: m = -8·d.
func q40ToQ41(dst, src []byte) bool {
	scale := binary.LittleEndian.Uint16(src)
	least, ok := kernel.Minimum(scale, pruned4Sym)
	binary.LittleEndian.PutUint16(dst, scale)
	binary.LittleEndian.PutUint16(dst[2:], least)
	copy(dst[4:], src[2:])
	return ok
}

// q41ToQ40 needs the zero code 8, or a step of 0.
func q41ToQ40(dst, src []byte) bool {
	scale, least := binary.LittleEndian.Uint16(src), binary.LittleEndian.Uint16(src[2:])
	eight, ok := kernel.Minimum(scale, pruned4Sym)
	copy(dst, src[:2])
	copy(dst[2:], src[4:])
	return ok && least == eight
}

func q40ToQ80(dst, src []byte) bool {
	copy(dst, src[:2])
	signedCodes(dst[2:], src[2:], pruned4Sym)
	return true
}

func q41ToQ80(dst, src []byte) bool {
	scale := binary.LittleEndian.Uint16(src)
	copy(dst, src[:2])
	if scale&0x7fff == 0 {
		clear(dst[2:])
		return true
	}
	zero, ok := zeroCode(scale, binary.LittleEndian.Uint16(src[2:]))
	signedCodes(dst[2:], src[4:], zero)
	return ok
}

// signedCodes writes the 32 codes of a 4-bit block as signed bytes.
func signedCodes(dst, q []byte, zero uint8) {
	readNibbles(dst, q)
	for j := range dst[:quantBlock] {
		dst[j] -= zero
	}
}

// Bytes of a block.
const (
	q40Bytes = 18 // d, 16 bytes of codes
	q41Bytes = 20 // d, m, 16 bytes of codes
)

// q80ToQ40 needs codes from -8 to 7.
func q80ToQ40(dst, src []byte) bool {
	copy(dst, src[:2])
	q, ok := src[2:], true
	for j := range quantBlock / 2 {
		lo, hi := q[j]+pruned4Sym, q[j+quantBlock/2]+pruned4Sym
		ok = ok && lo|hi < 16
		dst[2+j] = lo | hi<<4
	}
	return ok
}

func q80ToQ41(dst, src []byte) bool {
	var q40 [q40Bytes]byte
	return q80ToQ40(q40[:], src) && q40ToQ41(dst, q40[:])
}

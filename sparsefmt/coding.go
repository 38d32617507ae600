package sparsefmt

import (
	"fmt"

	"besa/gguf"
)

// Coding says what a survivor is stored as and which ggml type the tensor
// expands to. The numbers are part of the format.
type Coding uint8

const (
	// CodingQ4Sym has value = (code-8)·d, one fp16 d per group; expands to Q4_0.
	// A survivor may have code 8, that is, the value zero.
	CodingQ4Sym Coding = 1
	// CodingQ4Asym has value = (code-zero)·d, one fp16 d and one 4-bit zero per
	// group; expands to Q4_1 with m = -zero·d, which fp16 must hold exactly.
	CodingQ4Asym Coding = 2
	// CodingF16 has survivors that are fp16 values; expands to F16.
	CodingF16 Coding = 3
	// CodingBF16 has survivors that are bfloat16 values; expands to BF16.
	CodingBF16 Coding = 4
	// CodingQ8Sym has value = code·d, the code signed, one fp16 d per group;
	// expands to Q8_0. A survivor may have code 0.
	CodingQ8Sym Coding = 5
)

// codingSpec is what the rest of the package needs to know about a coding.
type codingSpec struct {
	name    string
	since   uint32 // the first format version that has it
	typ     gguf.Type
	nibbles bool   // 4-bit codes in two planes
	bytes   int    // of a survivor, where it is not a nibble
	scaled  bool   // an fp16 scale per group; otherwise 16-bit values
	zeros   bool   // a 4-bit zero code beside every scale
	pruned  uint8  // the code of zero, where there are scales but no zero codes
	expMask uint16 // of 16-bit values
}

var codingSpecs = [...]codingSpec{
	CodingQ4Sym:  {name: "q4_sym", since: 1, typ: gguf.Q4_0, nibbles: true, scaled: true, pruned: 8},
	CodingQ4Asym: {name: "q4_asym", since: 1, typ: gguf.Q4_1, nibbles: true, scaled: true, zeros: true},
	CodingF16:    {name: "f16", since: 1, typ: gguf.F16, bytes: 2, expMask: f16ExpMask},
	CodingBF16:   {name: "bf16", since: 1, typ: gguf.BF16, bytes: 2, expMask: bf16ExpMask},
	CodingQ8Sym:  {name: "q8_sym", since: 2, typ: gguf.Q8_0, bytes: 1, scaled: true},
}

// Exponent bits of the 16-bit float types: all of them set means Inf or NaN.
const (
	f16ExpMask  = 0x7c00
	bf16ExpMask = 0x7f80
)

// Codings lists every coding of this format version.
func Codings() []Coding {
	return []Coding{CodingQ4Sym, CodingQ4Asym, CodingF16, CodingBF16, CodingQ8Sym}
}

// Valid reports whether c is a coding of this format version.
func (c Coding) Valid() bool { return c >= CodingQ4Sym && c <= CodingQ8Sym }

func (c Coding) spec() codingSpec {
	if !c.Valid() {
		return codingSpec{}
	}
	return codingSpecs[c]
}

// String returns the name used in the specification, such as "q4_sym".
func (c Coding) String() string {
	if !c.Valid() {
		return fmt.Sprintf("coding(%d)", uint8(c))
	}
	return codingSpecs[c].name
}

// ParseCoding is the inverse of String.
func ParseCoding(s string) (Coding, error) {
	for _, c := range Codings() {
		if codingSpecs[c].name == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("%w: no coding is called %q", ErrUnsupported, s)
}

// Type is the ggml type that a tensor of this coding expands to.
func (c Coding) Type() gguf.Type { return c.spec().typ }

// Quantised reports whether survivors are codes with group scales.
func (c Coding) Quantised() bool { return c.spec().scaled }

// maxCode is the largest code of a survivor.
func (c Coding) maxCode() uint8 {
	if c.spec().nibbles {
		return 15
	}
	return 255
}

// MarshalText and UnmarshalText make codings readable in JSON.
func (c Coding) MarshalText() ([]byte, error) {
	if !c.Valid() {
		return nil, fmt.Errorf("%w: %v", ErrUnsupported, c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText accepts the names that String returns.
func (c *Coding) UnmarshalText(text []byte) error {
	v, err := ParseCoding(string(text))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// checkShape applies the limits on rows, columns and group size (rule R6).
func checkShape(c Coding, rows, cols uint64, group int) error {
	switch {
	case !c.Valid():
		return fmt.Errorf("unknown %v", c)
	case cols == 0 || cols > MaxDim:
		return fmt.Errorf("%d columns: must be 1 to %d", cols, MaxDim)
	case rows == 0 || rows > MaxDim:
		return fmt.Errorf("%d rows: must be 1 to %d", rows, MaxDim)
	case !c.Quantised() && group != 0:
		return fmt.Errorf("group size %d: must be 0 for %v", group, c)
	case c.Quantised() && group != 32 && group != 64 && group != 128:
		return fmt.Errorf("group size %d: must be 32, 64 or 128", group)
	case c.Quantised() && cols%quantBlock != 0:
		return fmt.Errorf("%d columns: must be a multiple of %d for %v", cols, quantBlock, c)
	}
	return nil
}

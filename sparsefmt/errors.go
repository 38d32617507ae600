package sparsefmt

import (
	"errors"
	"fmt"
)

// Errors that callers decide on. Errors about a file also are *RuleError.
var (
	// ErrNotSparse: a GGUF file, but not one that besa wrote as sparse.
	ErrNotSparse = errors.New("not a sparse GGUF")
	// ErrVersion: the format version or layout is unknown to this reader.
	ErrVersion = errors.New("written by a newer besa")
	// ErrMalformed: the file or blob breaks a rule of the specification.
	ErrMalformed = errors.New("malformed sparse GGUF")
	// ErrChecksum: contents differ from what was written.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrUnsupported: Encode or Create was given what the format cannot hold.
	ErrUnsupported = errors.New("not representable in a sparse GGUF")
	// ErrInexactZero: an asymmetric group whose -zero·scale fp16 cannot hold,
	// so that no Q4_1 block equals it.
	ErrInexactZero = errors.New("zero point times scale is not exact in fp16")
)

// Rule is the number of a rejection rule in SPEC.md, section 6.
type Rule int

// String returns the name used in the specification, such as "R7".
func (r Rule) String() string { return fmt.Sprintf("R%d", int(r)) }

// The rejection rules. Texts are in the rules table, which a test compares
// with the specification.
const (
	RuleContainer Rule = iota + 1
	RuleVersion
	RuleLayout
	RuleKeys
	RuleNames
	RuleShape
	RuleDenseTable
	RuleHeaderSum
	RulePadding
	RuleDenseSum
	RuleBlobHeader
	RuleTileOffsets
	RuleMaskTail
	RuleTileLength
	RuleSurvivors
	RuleFinite
	RuleZeroExact
	RuleUnusedBits
	RuleBlobSum
	RuleExpandedSum
	RuleChunkTable
	RuleChunkSum
	RuleSections
	RuleClasses
)

var ruleTexts = map[Rule]string{
	RuleContainer:   "the file is a well-formed GGUF v3",
	RuleVersion:     "the format version is known",
	RuleLayout:      "the layout is known",
	RuleKeys:        "the reserved keys are complete, well typed and of equal length",
	RuleNames:       "the table names the blob tensors, in order",
	RuleShape:       "coding, type, shape and group size fit together",
	RuleDenseTable:  "every other tensor has one checksum",
	RuleHeaderSum:   "the header checksum is the last key and matches",
	RulePadding:     "padding is zero and the file ends after it",
	RuleDenseSum:    "the checksum of a dense tensor matches",
	RuleBlobHeader:  "the blob header agrees with the table",
	RuleTileOffsets: "tile offsets and halves are exact",
	RuleMaskTail:    "mask bits beyond the last column are zero",
	RuleTileLength:  "the length of a tile follows from its masks",
	RuleSurvivors:   "the masks hold the stated number of survivors",
	RuleFinite:      "scales and values are finite",
	RuleZeroExact:   "zero code times scale is exact in fp16",
	RuleUnusedBits:  "unused bits and bytes are zero",
	RuleBlobSum:     "the checksum of a blob matches",
	RuleExpandedSum: "the checksum of an expanded tensor matches",
	RuleChunkTable:  "the chunk table is exact",
	RuleChunkSum:    "the checksum of a chunk matches",
	RuleSections:    "the sections of a chunk decode exactly",
	RuleClasses:     "column classes and rows of masks are in range",
}

// Rules returns the text of every rejection rule by its number.
func Rules() map[Rule]string {
	m := make(map[Rule]string, len(ruleTexts))
	for r, text := range ruleTexts {
		m[r] = text
	}
	return m
}

// RuleError says which rule a file breaks, where, and how.
type RuleError struct {
	Rule   Rule
	Tensor string // empty when the rule is about the file
	Detail string
	Err    error // the sentinel: ErrMalformed, ErrChecksum or ErrVersion
}

func (e *RuleError) Error() string {
	where := ""
	if e.Tensor != "" {
		where = fmt.Sprintf("tensor %q: ", e.Tensor)
	}
	return fmt.Sprintf("%s%v: %s (rule %v: %s)", where, e.Err, e.Detail, e.Rule, ruleTexts[e.Rule])
}

// Unwrap returns the sentinel.
func (e *RuleError) Unwrap() error { return e.Err }

// broken reports a violation whose sentinel is ErrMalformed.
func broken(r Rule, format string, args ...any) error {
	return &RuleError{Rule: r, Detail: fmt.Sprintf(format, args...), Err: ErrMalformed}
}

// mismatch reports a wrong checksum.
func mismatch(r Rule, got, want uint64) error {
	return &RuleError{Rule: r, Detail: fmt.Sprintf("found %016x, the file states %016x", got, want), Err: ErrChecksum}
}

// inTensor names the tensor an error is about.
func inTensor(name string, err error) error {
	if err == nil {
		return nil
	}
	if len(name) > 63 { // no tensor has such a name: it is an entry of a broken table
		name = name[:63] + "…"
	}
	var re *RuleError
	if errors.As(err, &re) {
		c := *re
		c.Tensor = name
		return &c
	}
	return fmt.Errorf("tensor %q: %w", name, err)
}

package gguf

import "errors"

// What a caller may decide on. Every error of this package that is caused by
// the content of a file wraps one of these; the text around it names the
// object and the rule that was broken.
var (
	// ErrNotGGUF: the file does not start with the GGUF magic.
	ErrNotGGUF = errors.New("not a GGUF file")
	// ErrVersion: a GGUF file of a version or byte order this package does not read.
	ErrVersion = errors.New("unsupported GGUF version")
	// ErrTruncated: the file ends before what its header promises.
	ErrTruncated = errors.New("truncated GGUF file")
	// ErrMalformed: a field breaks a rule of the format.
	ErrMalformed = errors.New("malformed GGUF file")
	// ErrUnsupportedType: a tensor type that ggml does not know (any more), or
	// one for which this package has no codec.
	ErrUnsupportedType = errors.New("unsupported tensor type")
	// ErrSplit: the parts of a split model do not make a model.
	ErrSplit = errors.New("split GGUF cannot be joined")
)

// ErrOutput marks an output that is refused: the path that [CheckOutput] was asked about must not be written.
var ErrOutput = errors.New("output refused")

package sparsefmt

// Numbers that the specification fixes (SPEC.md, sections 3 and 5).
const (
	// FormatVersion is the newest version of besa.format.version that this
	// package reads. It writes the oldest that has the codings of a file.
	FormatVersion = 2
	// Suffix turns the name of a pruned tensor into the name of its blob.
	Suffix = ".besa"
	// MaxName is the longest name of a pruned tensor, in bytes: GGUF's 63
	// less the suffix.
	MaxName = 63 - len(Suffix)
	// MaxDim bounds columns and rows, so that no product of sizes overflows
	// 64 bits.
	MaxDim = 1<<30 - 1
	// MaxBlob bounds a blob: offsets are 32 bits in units of 8 bytes.
	MaxBlob = 1 << 35
	// TileRows is the number of rows in every tile but the last.
	TileRows = 16
	// MaxChunk bounds the weights in a chunk of the packed layout.
	MaxChunk = 1 << 22
	// TailPadding is the number of zero bytes after the last tile, so that a
	// 64-byte load that starts inside a tile never leaves the blob.
	TailPadding = 64
)

const (
	headerBytes = 32
	blobMagic   = "BESA"
	tileAlign   = 8 // of tile starts, and the unit of tile offsets
	quantBlock  = 32
	maxGroup    = 128 // weights per scale
	maskBits    = 64
	pruned4Sym  = 8 // q4_sym's code of zero
)

package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"strings"

	"besa/gguf"
)

// The reserved metadata keys (SPEC.md, section 2).
const (
	keyVersion     = "besa.format.version"
	keyLayout      = "besa.format.layout"
	keyName        = "besa.tensors.name"
	keyType        = "besa.tensors.type"
	keyDims        = "besa.tensors.dims"
	keyShape       = "besa.tensors.shape"
	keyCoding      = "besa.tensors.coding"
	keyGroup       = "besa.tensors.group"
	keySurvivors   = "besa.tensors.survivors"
	keyBlobSum     = "besa.tensors.blob_xxh3"
	keyExpandedSum = "besa.tensors.expanded_xxh3"
	keyDenseSum    = "besa.dense.xxh3"
	keyFileType    = "besa.expand.file_type"
	keyQuantVer    = "besa.expand.quantization_version"
	keyHeaderSum   = "besa.header.xxh3"

	ownPrefix    = "besa."
	expandPrefix = "besa.expand."
	// quantVersion is ggml's current quantisation version.
	quantVersion = 2
)

// reservedPrefixes are the key prefixes that belong to the format; every
// other key under besa. is provenance and copied like any key.
var reservedPrefixes = []string{"besa.format.", "besa.tensors.", "besa.dense.", expandPrefix, "besa.header."}

// keySpec is a reserved key's type; elem is the element type of an array.
type keySpec struct {
	key      string
	typ      gguf.ValueType
	elem     gguf.ValueType
	optional bool
}

var keySpecs = []keySpec{
	{key: keyVersion, typ: gguf.Uint32},
	{key: keyLayout, typ: gguf.String},
	{key: keyFileType, typ: gguf.Uint32, optional: true},
	{key: keyQuantVer, typ: gguf.Uint32, optional: true},
	{key: keyName, typ: gguf.Array, elem: gguf.String},
	{key: keyType, typ: gguf.Array, elem: gguf.Uint32},
	{key: keyDims, typ: gguf.Array, elem: gguf.Uint32},
	{key: keyShape, typ: gguf.Array, elem: gguf.Uint64},
	{key: keyCoding, typ: gguf.Array, elem: gguf.Uint32},
	{key: keyGroup, typ: gguf.Array, elem: gguf.Uint32},
	{key: keySurvivors, typ: gguf.Array, elem: gguf.Uint64},
	{key: keyBlobSum, typ: gguf.Array, elem: gguf.Uint64},
	{key: keyExpandedSum, typ: gguf.Array, elem: gguf.Uint64},
	{key: keyDenseSum, typ: gguf.Array, elem: gguf.Uint64},
	{key: keyHeaderSum, typ: gguf.Uint64},
}

// IsReserved reports whether a metadata key belongs to the format, so that it
// can be no provenance and does not survive expansion.
func IsReserved(key string) bool {
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// checkKeys checks presence and types of the reserved keys (rules R2 to R4)
// and returns the layout.
func checkKeys(g *gguf.File) (Layout, error) {
	kv, ok := g.Lookup(keyVersion)
	if !ok {
		return 0, fmt.Errorf("%w: it has no %s", ErrNotSparse, keyVersion)
	}
	if kv.Type != gguf.Uint32 {
		return 0, broken(RuleVersion, "%s has type %v, not uint32", keyVersion, kv.Type)
	}
	switch v := binary.LittleEndian.Uint32(kv.Raw); {
	case v > FormatVersion:
		return 0, &RuleError{Rule: RuleVersion, Detail: fmt.Sprintf("format version %d, this reader knows %d", v, FormatVersion), Err: ErrVersion}
	case v == 0:
		return 0, broken(RuleVersion, "format version %d does not exist", v)
	}
	name, ok := g.String(keyLayout)
	if !ok {
		return 0, broken(RuleLayout, "%s is missing or no string", keyLayout)
	}
	layout, err := ParseLayout(name)
	if err != nil {
		return 0, &RuleError{Rule: RuleLayout, Err: ErrVersion,
			Detail: fmt.Sprintf("layout %.40q, this reader knows %q and %q", name, LayoutPlain, LayoutPacked)}
	}
	known := map[string]bool{}
	for _, s := range keySpecs {
		known[s.key] = true
		if err := s.check(g); err != nil {
			return 0, err
		}
	}
	for _, kv := range g.KVs() {
		if IsReserved(kv.Key) && !known[kv.Key] {
			return 0, broken(RuleKeys, "key %.80q is reserved and not defined", kv.Key)
		}
	}
	return layout, nil
}

func (s keySpec) check(g *gguf.File) error {
	kv, ok := g.Lookup(s.key)
	switch {
	case !ok && s.optional:
		return nil
	case !ok:
		return broken(RuleKeys, "key %s is missing", s.key)
	case kv.Type != s.typ:
		return broken(RuleKeys, "key %s has type %v, not %v", s.key, kv.Type, s.typ)
	}
	if elem, _, _ := kv.Elem(); s.typ == gguf.Array && elem != s.elem {
		return broken(RuleKeys, "key %s is an array of %v, not of %v", s.key, elem, s.elem)
	}
	return nil
}

// readTable returns the rows of the tensor table; checkKeys has passed.
func readTable(g *gguf.File) ([]TensorInfo, error) {
	version, _ := g.Uint(keyVersion)
	names, _ := g.Strings(keyName)
	rows := make([]TensorInfo, len(names))
	columns := map[string][]uint64{}
	for _, key := range []string{keyType, keyDims, keyCoding, keyGroup, keySurvivors, keyBlobSum, keyExpandedSum} {
		col, _ := g.Uints(key)
		if len(col) != len(rows) {
			return nil, broken(RuleKeys, "%s has %d entries, %s has %d", key, len(col), keyName, len(rows))
		}
		columns[key] = col
	}
	shape, _ := g.Uints(keyShape)
	for i := range rows {
		r := &rows[i]
		n := columns[keyDims][i]
		if n < 1 || n > 4 {
			return nil, inTensor(names[i], broken(RuleShape, "%d dimensions: must be 1 to 4", n))
		}
		if n > uint64(len(shape)) {
			return nil, broken(RuleKeys, "%s is shorter than %s says", keyShape, keyDims)
		}
		r.Name, r.Shape, shape = names[i], shape[:n:n], shape[n:]
		if c := columns[keyCoding][i]; c <= 0xff {
			r.Coding = Coding(c)
		}
		r.Group = int(columns[keyGroup][i])
		r.Survivors = columns[keySurvivors][i]
		r.BlobSum, r.ExpandedSum = columns[keyBlobSum][i], columns[keyExpandedSum][i]
		if err := r.Validate(); err != nil {
			return nil, inTensor(r.Name, err)
		}
		if since := uint64(r.Coding.spec().since); since > version {
			return nil, inTensor(r.Name, broken(RuleShape, "coding %v came with format version %d, the file has %d", r.Coding, since, version))
		}
		if t := gguf.Type(columns[keyType][i]); t != r.Type() {
			return nil, inTensor(r.Name, broken(RuleShape, "%v expands to %v, the table says %v", r.Coding, r.Type(), t))
		}
	}
	if len(shape) != 0 {
		return nil, broken(RuleKeys, "%s is longer than %s says", keyShape, keyDims)
	}
	return rows, nil
}

// tableKVs is the inverse of readTable.
func tableKVs(rows []TensorInfo) []gguf.KV {
	n := len(rows)
	names, shape := make([]string, n), []uint64{}
	types, dims, codings, groups := make([]uint32, n), make([]uint32, n), make([]uint32, n), make([]uint32, n)
	survivors, blobs, expanded := make([]uint64, n), make([]uint64, n), make([]uint64, n)
	for i, r := range rows {
		names[i] = r.Name
		shape = append(shape, r.Shape...)
		types[i], dims[i] = uint32(r.Type()), uint32(len(r.Shape))
		codings[i], groups[i] = uint32(r.Coding), uint32(r.Group)
		survivors[i], blobs[i], expanded[i] = r.Survivors, r.BlobSum, r.ExpandedSum
	}
	return []gguf.KV{
		gguf.MustKV(keyName, names),
		gguf.MustKV(keyType, types),
		gguf.MustKV(keyDims, dims),
		gguf.MustKV(keyShape, shape),
		gguf.MustKV(keyCoding, codings),
		gguf.MustKV(keyGroup, groups),
		gguf.MustKV(keySurvivors, survivors),
		gguf.MustKV(keyBlobSum, blobs),
		gguf.MustKV(keyExpandedSum, expanded),
	}
}

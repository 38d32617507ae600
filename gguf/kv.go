package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ValueType is the type of a metadata value, numbered as in the file.
type ValueType uint32

// The value types of GGUF.
const (
	Uint8 ValueType = iota
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Float32
	Bool
	String
	Array
	Uint64
	Int64
	Float64
)

var valueTypes = [...]struct {
	name string
	size int // bytes; 0 when the size is in the value
}{
	Uint8: {"uint8", 1}, Int8: {"int8", 1}, Uint16: {"uint16", 2}, Int16: {"int16", 2},
	Uint32: {"uint32", 4}, Int32: {"int32", 4}, Float32: {"float32", 4}, Bool: {"bool", 1},
	String: {"string", 0}, Array: {"array", 0}, Uint64: {"uint64", 8}, Int64: {"int64", 8}, Float64: {"float64", 8},
}

// String returns the name the GGUF specification gives the type, in lower case.
func (t ValueType) String() string {
	if int64(t) < int64(len(valueTypes)) {
		return valueTypes[t].name
	}
	return fmt.Sprintf("value type %d", uint32(t))
}

// size is the number of bytes of a scalar of that type, 0 for string, array
// and types that do not exist.
func (t ValueType) size() int {
	if int64(t) < int64(len(valueTypes)) {
		return valueTypes[t].size
	}
	return 0
}

// KV is a metadata pair. Raw holds the value's bytes exactly as they stand in
// a file, which is how pairs are copied verbatim, whatever they mean: a scalar
// little-endian, a string with its 64-bit length before it, an array as
// element type (32 bits), count (64 bits) and elements.
//
// The Raw of a pair that came from a [File] is part of its mapping: it must
// not be changed, and is gone after [File.Close]. String values are passed on
// as they are; they should be UTF-8, but files exist whose vocabulary is not.
type KV struct {
	Key  string
	Type ValueType
	Raw  []byte
}

// Elem is the element type and length of an array; ok is false for a value
// that is none.
func (kv KV) Elem() (t ValueType, n uint64, ok bool) {
	if kv.Type != Array || len(kv.Raw) < 12 {
		return 0, 0, false
	}
	return ValueType(binary.LittleEndian.Uint32(kv.Raw)), binary.LittleEndian.Uint64(kv.Raw[4:]), true
}

// Text returns a string value.
func (kv KV) Text() (string, bool) {
	if kv.Type != String {
		return "", false
	}
	c := cursor{data: kv.Raw}
	b, err := c.text(maxItems)
	return string(b), err == nil
}

// Bool returns a bool value.
func (kv KV) Bool() (bool, bool) {
	if kv.Type != Bool || len(kv.Raw) != 1 {
		return false, false
	}
	return kv.Raw[0] != 0, true
}

// Uint returns an integer value of any width that is not negative.
func (kv KV) Uint() (uint64, bool) {
	if kv.Type.size() == 0 || kv.Type.size() != len(kv.Raw) {
		return 0, false
	}
	return uintAt(kv.Type, kv.Raw)
}

// Int returns an integer value of any width that an int64 holds.
func (kv KV) Int() (int64, bool) {
	if kv.Type.size() == 0 || kv.Type.size() != len(kv.Raw) {
		return 0, false
	}
	return intAt(kv.Type, kv.Raw)
}

// Float returns a float32 or float64 value.
func (kv KV) Float() (float64, bool) {
	if kv.Type.size() == 0 || kv.Type.size() != len(kv.Raw) {
		return 0, false
	}
	return floatAt(kv.Type, kv.Raw)
}

// Strings returns an array of strings.
func (kv KV) Strings() ([]string, bool) {
	t, _, ok := kv.Elem()
	if !ok || t != String {
		return nil, false
	}
	c := cursor{data: kv.Raw, pos: 4}
	n, err := c.count(maxItems, 8)
	if err != nil {
		return nil, false
	}
	s := make([]string, n)
	for i := range s {
		b, err := c.text(maxItems)
		if err != nil {
			return nil, false
		}
		s[i] = string(b)
	}
	return s, true
}

// Bools returns an array of bools.
func (kv KV) Bools() ([]bool, bool) {
	return elements(kv, func(t ValueType, b []byte) (bool, bool) { return b[0] != 0, t == Bool })
}

// Uints returns an array of integers none of which is negative.
func (kv KV) Uints() ([]uint64, bool) { return elements(kv, uintAt) }

// Ints returns an array of integers that int64 holds.
func (kv KV) Ints() ([]int64, bool) { return elements(kv, intAt) }

// Floats returns an array of float32, or of float64 rounded to float32.
func (kv KV) Floats() ([]float32, bool) {
	return elements(kv, func(t ValueType, b []byte) (float32, bool) {
		x, ok := floatAt(t, b)
		return float32(x), ok
	})
}

// elements reads an array of fixed-size elements; an empty array of any such
// type passes.
func elements[T any](kv KV, at func(ValueType, []byte) (T, bool)) ([]T, bool) {
	t, n, ok := kv.Elem()
	size := uint64(t.size())
	if !ok || size == 0 || n > maxItems || uint64(len(kv.Raw)-12) != n*size {
		return nil, false
	}
	values := make([]T, n)
	for i := range values {
		if values[i], ok = at(t, kv.Raw[12+i*int(size):]); !ok {
			return nil, false
		}
	}
	return values, true
}

// The functions below read a scalar of type t at the start of b.

func uintAt(t ValueType, b []byte) (uint64, bool) {
	if t == Uint64 {
		return binary.LittleEndian.Uint64(b), true
	}
	v, ok := intAt(t, b)
	return uint64(v), ok && v >= 0
}

func intAt(t ValueType, b []byte) (int64, bool) {
	switch t {
	case Uint8:
		return int64(b[0]), true
	case Int8:
		return int64(int8(b[0])), true
	case Uint16:
		return int64(binary.LittleEndian.Uint16(b)), true
	case Int16:
		return int64(int16(binary.LittleEndian.Uint16(b))), true
	case Uint32:
		return int64(binary.LittleEndian.Uint32(b)), true
	case Int32:
		return int64(int32(binary.LittleEndian.Uint32(b))), true
	case Uint64:
		v := binary.LittleEndian.Uint64(b)
		return int64(v), v <= math.MaxInt64
	case Int64:
		return int64(binary.LittleEndian.Uint64(b)), true
	}
	return 0, false
}

func floatAt(t ValueType, b []byte) (float64, bool) {
	switch t {
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), true
	case Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), true
	}
	return 0, false
}

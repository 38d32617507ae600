package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
)

// NewKV makes a pair of the value type that corresponds to v's Go type: bool,
// string, float32, float64, any integer type (int and uint are written as
// int64 and uint64), or a slice of one of these.
func NewKV(key string, v any) (KV, error) {
	if err := checkName(key, maxKeyBytes); err != nil {
		return KV{}, fmt.Errorf("metadata key: %w", err)
	}
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return KV{}, fmt.Errorf("metadata key %q: no value", key)
	}
	kv := KV{Key: key}
	var ok bool
	if value.Kind() != reflect.Slice {
		if kv.Type, ok = scalarType(value.Kind()); !ok {
			return KV{}, fmt.Errorf("metadata key %q: GGUF has no type for %T", key, v)
		}
		kv.Raw = appendScalar(nil, value)
		return kv, nil
	}
	elem, ok := scalarType(value.Type().Elem().Kind())
	if !ok {
		return KV{}, fmt.Errorf("metadata key %q: GGUF has no type for %T", key, v)
	}
	kv.Type = Array
	kv.Raw = binary.LittleEndian.AppendUint32(nil, uint32(elem))
	kv.Raw = binary.LittleEndian.AppendUint64(kv.Raw, uint64(value.Len()))
	for i := range value.Len() {
		kv.Raw = appendScalar(kv.Raw, value.Index(i))
	}
	return kv, nil
}

// MustKV is [NewKV] for keys and values known at compile time: it panics where
// NewKV fails.
func MustKV(key string, v any) KV {
	kv, err := NewKV(key, v)
	if err != nil {
		panic(err)
	}
	return kv
}

func scalarType(k reflect.Kind) (ValueType, bool) {
	switch k {
	case reflect.Bool:
		return Bool, true
	case reflect.String:
		return String, true
	case reflect.Float32:
		return Float32, true
	case reflect.Float64:
		return Float64, true
	case reflect.Int8:
		return Int8, true
	case reflect.Int16:
		return Int16, true
	case reflect.Int32:
		return Int32, true
	case reflect.Int64, reflect.Int:
		return Int64, true
	case reflect.Uint8:
		return Uint8, true
	case reflect.Uint16:
		return Uint16, true
	case reflect.Uint32:
		return Uint32, true
	case reflect.Uint64, reflect.Uint:
		return Uint64, true
	}
	return 0, false
}

// appendScalar appends a value whose kind scalarType knows.
func appendScalar(b []byte, v reflect.Value) []byte {
	t, _ := scalarType(v.Kind())
	var bits uint64
	switch {
	case t == String:
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Len()))
		return append(b, v.String()...)
	case t == Bool:
		if v.Bool() {
			bits = 1
		}
	case t == Float32:
		bits = uint64(math.Float32bits(float32(v.Float())))
	case t == Float64:
		bits = math.Float64bits(v.Float())
	case v.CanInt():
		bits = uint64(v.Int())
	default:
		bits = v.Uint()
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], bits)
	return append(b, word[:t.size()]...)
}

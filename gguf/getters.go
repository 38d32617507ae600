package gguf

// The getters below answer ok = false when the key is absent and when its
// value has another type; see the methods of [KV] for what is accepted.

// value looks key up and reads it.
func value[T any](f *File, key string, read func(KV) (T, bool)) (v T, ok bool) {
	kv, ok := f.Lookup(key)
	if !ok {
		return v, false
	}
	return read(kv)
}

// String returns a string.
func (f *File) String(key string) (string, bool) { return value(f, key, KV.Text) }

// Bool returns a bool.
func (f *File) Bool(key string) (bool, bool) { return value(f, key, KV.Bool) }

// Uint returns an integer that is not negative.
func (f *File) Uint(key string) (uint64, bool) { return value(f, key, KV.Uint) }

// Int returns an integer.
func (f *File) Int(key string) (int64, bool) { return value(f, key, KV.Int) }

// Float returns a floating-point number.
func (f *File) Float(key string) (float64, bool) { return value(f, key, KV.Float) }

// Strings returns an array of strings.
func (f *File) Strings(key string) ([]string, bool) { return value(f, key, KV.Strings) }

// Bools returns an array of bools.
func (f *File) Bools(key string) ([]bool, bool) { return value(f, key, KV.Bools) }

// Uints returns an array of integers none of which is negative.
func (f *File) Uints(key string) ([]uint64, bool) { return value(f, key, KV.Uints) }

// Ints returns an array of integers.
func (f *File) Ints(key string) ([]int64, bool) { return value(f, key, KV.Ints) }

// Floats returns an array of floating-point numbers.
func (f *File) Floats(key string) ([]float32, bool) { return value(f, key, KV.Floats) }

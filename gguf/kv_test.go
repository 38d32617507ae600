package gguf

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// named has the kind of a known type.
type named uint16

func TestNewKV(t *testing.T) {
	for _, c := range []struct {
		v    any
		t    ValueType
		elem ValueType // of an array
		size int
	}{
		{true, Bool, 0, 1}, {"", String, 0, 8}, {"ab", String, 0, 10},
		{int8(-1), Int8, 0, 1}, {int16(-1), Int16, 0, 2}, {int32(-1), Int32, 0, 4}, {int64(-1), Int64, 0, 8}, {-1, Int64, 0, 8},
		{uint8(1), Uint8, 0, 1}, {uint16(1), Uint16, 0, 2}, {uint32(1), Uint32, 0, 4}, {uint64(1), Uint64, 0, 8}, {uint(1), Uint64, 0, 8},
		{float32(1.5), Float32, 0, 4}, {1.5, Float64, 0, 8}, {named(3), Uint16, 0, 2},
		{[]string{"a", ""}, Array, String, 12 + 9 + 8}, {[]bool{true, false}, Array, Bool, 12 + 2},
		{[]uint8{1, 2, 3}, Array, Uint8, 12 + 3}, {[]int32{-1}, Array, Int32, 12 + 4}, {[]int{-1}, Array, Int64, 12 + 8},
		{[]uint32{1}, Array, Uint32, 12 + 4}, {[]uint64{1}, Array, Uint64, 12 + 8},
		{[]float32{}, Array, Float32, 12}, {[]float64(nil), Array, Float64, 12},
	} {
		kv, err := NewKV("k", c.v)
		if err != nil {
			t.Errorf("%T: %v", c.v, err)
			continue
		}
		elem, _, array := kv.Elem()
		if kv.Type != c.t || len(kv.Raw) != c.size || array != (c.t == Array) || elem != c.elem {
			t.Errorf("%T: %s (of %s) in %d bytes", c.v, kv.Type, elem, len(kv.Raw))
		}
		cur := cursor{data: kv.Raw}
		if err := cur.value(kv.Type); err != nil || cur.left() != 0 {
			t.Errorf("%T: the scan reads %d of %d bytes: %v", c.v, cur.pos, len(kv.Raw), err)
		}
	}
}

func TestNewKVRefuses(t *testing.T) {
	for _, c := range []struct {
		key string
		v   any
	}{
		{"", 1}, {strings.Repeat("k", 65536), 1}, {"a\x00", 1}, {"\xff", 1},
		{"k", nil}, {"k", struct{}{}}, {"k", []any{1}}, {"k", [][]int{{1}}}, {"k", map[string]int{}}, {"k", complex(1, 1)}, {"k", [2]int{}},
	} {
		if kv, err := NewKV(c.key, c.v); err == nil {
			t.Errorf("key %.10q, %T: %+v", c.key, c.v, kv)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("MustKV does not panic")
		}
	}()
	MustKV("", 1)
}

// readings calls every getter and prints those that answer.
func readings(kv KV) string {
	var b strings.Builder
	add := func(name string, v any, ok bool) {
		if ok {
			fmt.Fprintf(&b, "%s=%v ", name, v)
		}
	}
	text, ok := kv.Text()
	add("text", text, ok)
	truth, ok := kv.Bool()
	add("bool", truth, ok)
	u, ok := kv.Uint()
	add("uint", u, ok)
	i, ok := kv.Int()
	add("int", i, ok)
	f, ok := kv.Float()
	add("float", f, ok)
	texts, ok := kv.Strings()
	add("strings", texts, ok)
	truths, ok := kv.Bools()
	add("bools", truths, ok)
	us, ok := kv.Uints()
	add("uints", us, ok)
	is, ok := kv.Ints()
	add("ints", is, ok)
	fs, ok := kv.Floats()
	add("floats", fs, ok)
	return strings.TrimSpace(b.String())
}

func TestGettersAnswerForTheirTypesAlone(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{"x", "text=x"}, {true, "bool=true"}, {float32(0.5), "float=0.5"}, {0.25, "float=0.25"},
		{uint8(200), "uint=200 int=200"}, {int8(-5), "int=-5"}, {int64(5), "uint=5 int=5"},
		{uint64(math.MaxUint64), "uint=18446744073709551615"}, {int32(-1), "int=-1"},
		{[]string{"a", "b"}, "strings=[a b]"}, {[]bool{true}, "bools=[true]"},
		{[]uint32{1, 2}, "uints=[1 2] ints=[1 2]"}, {[]int16{1, -2}, "ints=[1 -2]"},
		{[]uint64{1, math.MaxUint64}, "uints=[1 18446744073709551615]"}, {[]float64{0.5}, "floats=[0.5]"},
	} {
		if got := readings(MustKV("k", c.v)); got != c.want {
			t.Errorf("%T %v: %q, want %q", c.v, c.v, got, c.want)
		}
	}
}

// Pairs made by hand may be anything; reading them must do no harm.
func TestGettersSurviveNonsense(t *testing.T) {
	for typ := range ValueType(15) {
		for _, raw := range [][]byte{nil, {1}, u32(1), u64(9), join(u32(0), u64(1<<62)), join(u32(9), u64(1)), join(u32(8), u64(1), u64(99)), join(u32(99), u64(1), u64(1))} {
			readings(KV{Key: "k", Type: typ, Raw: raw})
		}
	}
}

func TestMissingKeys(t *testing.T) {
	f, err := Open(writeFile(t, valid().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.Uint("no.such"); ok {
		t.Error("a missing key has a value")
	}
	if _, ok := f.Uint("general.architecture"); ok {
		t.Error("a string is a number")
	}
	if _, ok := f.Strings("a.list"); ok {
		t.Error("numbers are strings")
	}
}

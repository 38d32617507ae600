package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag's number of bytes: 8GiB, 512MiB, 1.5TB, 4G, 1000000.
// KiB, MiB, GiB, TiB and the bare letters count in 1024s, KB, MB, GB, TB in 1000s.
type byteSize int64

var byteUnits = map[string]float64{
	"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}

// Set parses a size, as pflag asks for it.
func (b *byteSize) Set(text string) error {
	number := strings.TrimRight(strings.ToLower(text), "bikmgt ")
	factor, ok := byteUnits[strings.TrimSpace(strings.ToLower(text)[len(number):])]
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || math.IsNaN(v) {
		return errors.New("not a size such as 8GiB, 512MiB or 4G")
	}
	if v *= factor; v < 1 || v >= math.MaxInt64 {
		return fmt.Errorf("%s is out of range", text)
	}
	*b = byteSize(v)
	return nil
}

// String and Type are what pflag shows.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return size(int64(*b))
}

// Type names the kind of value in the help.
func (*byteSize) Type() string { return "size" }

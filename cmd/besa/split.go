package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// partSize is the value of --split-max-size, in bytes: a number with K, M or G,
// which are powers of ten, as llama.cpp's tools read them. 0 means one file.
type partSize uint64

// addSplitFlag defines --split-max-size.
func addSplitFlag(f *pflag.FlagSet, s *partSize) {
	f.Var(s, "split-max-size", "write parts NAME-00001-of-0000N.gguf of at most this much tensor data, such as 2G (10⁹ bytes) or 500M")
}

var partUnits = map[byte]uint64{'K': 1e3, 'M': 1e6, 'G': 1e9}

// Set parses a size.
func (s *partSize) Set(text string) error {
	wrong := errors.New("not a size such as 2G, 500M or 100K")
	if text == "" {
		return wrong
	}
	unit, ok := partUnits[strings.ToUpper(text)[len(text)-1]]
	if !ok {
		return wrong
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 64)
	if err != nil || n == 0 || n > 1<<62/unit {
		return wrong
	}
	*s = partSize(n * unit)
	return nil
}

// String shows the default: none.
func (s *partSize) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*s), 10)
}

// Type names the kind of value in the help.
func (*partSize) Type() string { return "size" }

// partSuffix is what the names of parts end in, before ".gguf".
var partSuffix = regexp.MustCompile(`-\d{5}-of-\d{5}$`)

// inParts says that a model is split, after a sentence about it.
func inParts(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(", in %d parts", n)
}

// filesSize is the size of a model's files together.
func filesSize(paths []string) (int64, error) {
	var total int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}

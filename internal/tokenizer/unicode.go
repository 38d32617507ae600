package tokenizer

import (
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"
)

// class is the Unicode category of a code point, as far as splitting needs it.
type class uint8

const (
	letter class = 1 << iota // \p{L}
	number                   // \p{N}
	mark                     // \p{M}
	punct                    // \p{P}
	symbol                   // \p{S}
	space                    // \s: White_Space
)

// classTable holds the class of every code point, in pages of 256 of which equal
// ones are stored once: 60 KB instead of the megabyte of a flat table.
type classTable struct {
	page  [(unicode.MaxRune + 1) / 256]uint8
	pages [][256]class
}

func (t *classTable) of(cp rune) class { return t.pages[t.page[cp>>8]][cp&0xFF] }

// classes is the table. llama.cpp's is of Unicode 15.1, Go's of 15.0: the
// difference is spelled out. A test pins all of it, so that another Unicode
// version in Go cannot change token ids quietly.
var classes = sync.OnceValue(func() *classTable {
	t := &classTable{}
	known := map[[256]class]uint8{}
	for i := range t.page {
		page := classPage(rune(i) << 8)
		at, ok := known[page]
		if !ok {
			at = uint8(len(t.pages)) // the test shows that there are not more
			known[page] = at
			t.pages = append(t.pages, page)
		}
		t.page[i] = at
	}
	t.pages = slices.Clip(t.pages)
	return t
})

// classPage returns the classes of the 256 code points from first on.
func classPage(first rune) (page [256]class) {
	last := first + 255
	for _, c := range []struct {
		ranges *unicode.RangeTable
		class  class
	}{
		{unicode.L, letter}, {unicode.N, number}, {unicode.M, mark},
		{unicode.P, punct}, {unicode.S, symbol}, {unicode.White_Space, space},
	} {
		add := func(low, high, stride rune) {
			if low < first {
				low += (first - low + stride - 1) / stride * stride
			}
			for cp := low; cp <= min(high, last); cp += stride {
				page[cp-first] |= c.class
			}
		}
		for _, r := range c.ranges.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range c.ranges.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	for cp := max(first, 0x2EBF0); cp <= min(last, 0x2EE5D); cp++ { // CJK extension I
		page[cp-first] = letter
	}
	for _, cp := range []rune{0x2FFC, 0x2FFD, 0x2FFE, 0x2FFF, 0x31EF} { // ideographic description
		if cp >= first && cp <= last {
			page[cp-first] = symbol
		}
	}
	return page
}

// decode returns the code points of s, and s itself with every byte that does
// not belong to a UTF-8 sequence replaced by U+FFFD. Like llama.cpp's decoder
// it lets surrogates pass and shortens overlong forms; what lies beyond U+10FFFF,
// on which llama.cpp throws, counts as no sequence.
func decode(s string) ([]rune, string) {
	if utf8.ValidString(s) {
		return []rune(s), s
	}
	var cps []rune
	var out []byte
	for len(s) > 0 {
		cp, n := decodeLoose(s)
		cps = append(cps, cp)
		out = appendLoose(out, cp)
		s = s[n:]
	}
	return cps, string(out)
}

// decodeLoose reads one code point and its length.
func decodeLoose(s string) (rune, int) {
	n, bits := 0, rune(0)
	switch c := s[0]; {
	case c < 0x80:
		return rune(c), 1
	case c >= 0xC0 && c < 0xE0:
		n, bits = 2, rune(c&0x1F)
	case c >= 0xE0 && c < 0xF0:
		n, bits = 3, rune(c&0x0F)
	case c >= 0xF0 && c < 0xF8:
		n, bits = 4, rune(c&0x07)
	}
	if n == 0 || n > len(s) {
		return utf8.RuneError, 1
	}
	for _, c := range []byte(s[1:n]) {
		if c&0xC0 != 0x80 {
			return utf8.RuneError, 1
		}
		bits = bits<<6 | rune(c&0x3F)
	}
	if bits > unicode.MaxRune {
		return utf8.RuneError, 1
	}
	return bits, n
}

// appendLoose is utf8.AppendRune that lets surrogates pass.
func appendLoose(dst []byte, cp rune) []byte {
	if cp >= 0xD800 && cp < 0xE000 {
		return append(dst, 0xE0|byte(cp>>12), 0x80|byte(cp>>6&0x3F), 0x80|byte(cp&0x3F))
	}
	return utf8.AppendRune(dst, cp)
}

// byteLen is the length of a code point in UTF-8, surrogates included.
func byteLen(cp rune) int {
	if n := utf8.RuneLen(cp); n > 0 {
		return n
	}
	return 3
}

// alphabet maps each byte to the printable code point that stands for it in a
// byte-level vocabulary: itself where it prints, else the next free one from
// U+0100 on.
var alphabet = func() (table [256]rune) {
	next := rune(0x100)
	for b := range rune(256) {
		switch {
		case b >= '!' && b <= '~', b >= 0xA1 && b <= 0xAC, b >= 0xAE:
			table[b] = b
		default:
			table[b] = next
			next++
		}
	}
	return table
}()

// alphabetBytes undoes alphabet.
var alphabetBytes = func() map[rune]byte {
	table := make(map[rune]byte, 256)
	for b, cp := range alphabet {
		table[cp] = byte(b)
	}
	return table
}()

package generate

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestText(t *testing.T) {
	for name, c := range map[string]struct {
		stop   []string
		pieces []string
		want   []string // shown after each piece, then the rest
		stops  bool
	}{
		"plain":                     {nil, []string{"a", "bc"}, []string{"a", "bc", ""}, false},
		"a character in two tokens": {nil, []string{"x\xe2\x82", "\xac!"}, []string{"x", "€!", ""}, false},
		"in four":                   {nil, []string{"\xf0", "\x9f", "\x98", "\x80"}, []string{"", "", "", "😀", ""}, false},
		"unfinished at the end":     {nil, []string{"a\xe2\x82"}, []string{"a", "\uFFFD"}, false},
		"no text":                   {nil, []string{"a\xffb"}, []string{"a\uFFFDb", ""}, false},
		"stray continuation":        {nil, []string{"\x80\x80\x80\x80"}, []string{"\uFFFD", ""}, false},
		"stop in a piece":           {[]string{"END"}, []string{"a END b"}, []string{"a "}, true},
		"stop over pieces":          {[]string{"END"}, []string{"aE", "N", "D"}, []string{"a", "", ""}, true},
		"no stop after all":         {[]string{"END"}, []string{"aE", "N", "x"}, []string{"a", "", "ENx", ""}, false},
		"held at the end":           {[]string{"END"}, []string{"aEN"}, []string{"a", "EN"}, false},
		"the first of two":          {[]string{"two", "one"}, []string{"one two"}, []string{""}, true},
		"overlapping begin":         {[]string{"aab"}, []string{"aa", "ab"}, []string{"", "a"}, true},
		"stop within a character":   {[]string{"€"}, []string{"1\xe2", "\x82", "\xac2"}, []string{"1", "", ""}, true},
	} {
		x := text{stop: c.stop}
		var got []string
		stopped := false
		for _, p := range c.pieces {
			var shown string
			shown, stopped = x.add([]byte(p))
			got = append(got, shown)
		}
		if !stopped {
			got = append(got, x.rest())
		}
		if stopped != c.stops || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, stopped %v; want %q", name, got, stopped, c.want)
		}
	}
}

// TestTextIsTheWhole: however a text is cut into pieces, what is shown is the
// text, in whole characters, or what of it comes before a stop string.
func TestTextIsTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.StringMatching(`[ab€😀]{0,30}`).Draw(t, "text")
		stop := rapid.SliceOfN(rapid.StringMatching(`[ab€]{1,4}`), 0, 3).Draw(t, "stop")
		x := text{stop: stop}
		shown, stopped := "", false
		for rest := whole; rest != "" && !stopped; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			var s string
			if s, stopped = x.add([]byte(rest[:n])); !utf8.ValidString(s) {
				t.Fatalf("%q is shown", s)
			}
			shown, rest = shown+s, rest[n:]
		}
		if !stopped {
			shown += x.rest()
		}
		contains := slices.ContainsFunc(stop, func(s string) bool { return strings.Contains(whole, s) })
		begins := slices.ContainsFunc(stop, func(s string) bool { return strings.HasPrefix(whole, shown+s) })
		if stopped != contains || stopped && !begins || !stopped && shown != whole {
			t.Fatalf("%q with stops %q shows %q, stopped %v", whole, stop, shown, stopped)
		}
	})
}

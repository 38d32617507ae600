package generate

import (
	"strings"
	"unicode/utf8"
)

// text turns the bytes of tokens into text that can be shown: whole characters
// only, nothing of a stop string, and nothing that may yet become one.
type text struct {
	stop []string
	held string // not given out yet
}

// add takes the bytes of a token. It returns what can be shown now, and whether
// a stop string is complete: then there is nothing more to come.
func (t *text) add(piece []byte) (shown string, stopped bool) {
	t.held += string(piece)
	if i := t.firstStop(); i >= 0 {
		shown, t.held = t.held[:i], ""
		return valid(shown), true
	}
	n := len(t.held) - max(partialRune(t.held), t.partialStop())
	shown, t.held = t.held[:n], t.held[n:]
	return valid(shown), false
}

// rest returns what was held back, when no token follows.
func (t *text) rest() string {
	shown := t.held
	t.held = ""
	return valid(shown)
}

// firstStop returns where the first stop string begins, or -1.
func (t *text) firstStop() int {
	first := -1
	for _, s := range t.stop {
		if i := strings.Index(t.held, s); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	return first
}

// partialStop returns the length of the longest end that begins a stop string.
func (t *text) partialStop() int {
	longest := 0
	for _, s := range t.stop {
		for n := min(len(s)-1, len(t.held)); n > longest; n-- {
			if strings.HasSuffix(t.held, s[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// partialRune returns the length of an unfinished character at the end.
func partialRune(s string) int {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if b := s[len(s)-n]; utf8.RuneStart(b) {
			if !utf8.FullRuneInString(s[len(s)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// valid replaces bytes that are no text.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

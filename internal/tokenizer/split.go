package tokenizer

// Byte-level BPE first splits its text into words; merges never cross their
// borders. llama.cpp describes the split by a sequence of regular expressions,
// each splitting the pieces of the one before at its matches and at the gaps
// between them. Those expressions are few and simple, so here they are built
// from a handful of parts and matched directly: in linear time on every input
// (each run of characters is looked at a bounded number of times), where a
// backtracking engine may overflow its stack on one long word.

// runes is a text as code points with their classes.
type runes struct {
	cps     []rune
	classes []class
}

func newRunes(cps []rune) runes {
	table := classes()
	t := runes{cps, make([]class, len(cps))}
	for i, cp := range cps {
		t.classes[i] = table.of(cp)
	}
	return t
}

// set is a set of characters. Explicit characters beyond ASCII must not include
// white space: llama.cpp replaces that by a vertical tab before matching.
type set func(cp rune, c class) bool

// part matches between min and max characters of a set, as many as possible;
// max < 0 means no limit. Two parts are of another kind: with look it consumes
// nothing and matches at the end of the piece or before a white space, (?!\S);
// with maybe it matches one of the alternatives, or nothing.
type part struct {
	set      set
	min, max int
	look     bool
	maybe    pattern
}

// rule is a sequence of parts; pattern a list of alternatives, the first that
// matches wins.
type (
	rule    []part
	pattern []rule
)

// stage appends the ends of the pieces of t[lo:hi] to ends.
type stage interface {
	split(ends []int, t runes, lo, hi int) []int
}

// match returns the end of a match of the rule at pos, or -1.
func (t runes) match(r rule, pos, hi int) int {
	if len(r) == 0 {
		return pos
	}
	p := r[0]
	if p.look {
		if pos < hi && t.classes[pos]&space == 0 {
			return -1
		}
		return t.match(r[1:], pos, hi)
	}
	if p.set == nil {
		for _, alternative := range p.maybe {
			if end := t.match(alternative, pos, hi); end >= 0 {
				if m := t.match(r[1:], end, hi); m >= 0 {
					return m
				}
			}
		}
		return t.match(r[1:], pos, hi)
	}
	end, limit := pos, hi
	if p.max >= 0 {
		limit = min(hi, pos+p.max)
	}
	for end < limit && p.set(t.cps[end], t.classes[end]) {
		end++
	}
	for ; end >= pos+p.min; end-- {
		if m := t.match(r[1:], end, hi); m >= 0 {
			return m
		}
	}
	return -1
}

func (p pattern) split(ends []int, t runes, lo, hi int) []int {
	gap := lo
next:
	for pos := lo; pos < hi; {
		for _, r := range p {
			end := t.match(r, pos, hi)
			if end < 0 {
				continue
			}
			if gap < pos {
				ends = append(ends, pos)
			}
			ends = append(ends, end)
			gap, pos = end, end
			continue next
		}
		pos++
	}
	if gap < hi {
		ends = append(ends, hi)
	}
	return ends
}

// trailingSpace is \s+$, found from the end: from the front it would take
// quadratic time on a long run of spaces that something follows.
type trailingSpace struct{}

func (trailingSpace) split(ends []int, t runes, lo, hi int) []int {
	start := hi
	for start > lo && t.classes[start-1]&space != 0 {
		start--
	}
	if start > lo {
		ends = append(ends, start)
	}
	if start < hi {
		ends = append(ends, hi)
	}
	return ends
}

// split returns the ends of the words of the whole text.
func split(stages []stage, t runes) []int {
	ends := []int{len(t.cps)}
	for _, s := range stages {
		next := make([]int, 0, len(t.cps)/4+1)
		lo := 0
		for _, hi := range ends {
			next = s.split(next, t, lo, hi)
			lo = hi
		}
		ends = next
	}
	return ends
}

// Sets and parts to build rules from.

func isLetter(_ rune, c class) bool   { return c&letter != 0 }
func isNumber(_ rune, c class) bool   { return c&number != 0 }
func isSpace(_ rune, c class) bool    { return c&space != 0 }
func isPunct(_ rune, c class) bool    { return c&punct != 0 }
func isMark(_ rune, c class) bool     { return c&mark != 0 }
func isSymbol(_ rune, c class) bool   { return c&symbol != 0 }
func isBlank(cp rune, _ class) bool   { return cp == ' ' }
func isNewline(cp rune, _ class) bool { return cp == '\r' || cp == '\n' }

func oneOf(sets ...set) set {
	return func(cp rune, c class) bool {
		for _, s := range sets {
			if s(cp, c) {
				return true
			}
		}
		return false
	}
}

func not(s set) set {
	return func(cp rune, c class) bool { return !s(cp, c) }
}

// chars is the set of the characters of a list, in which a-z is a range, as
// inside a regular expression's brackets; a leading or trailing - is itself.
func chars(list string) set {
	cps := []rune(list)
	var ranges [][2]rune
	for i := 0; i < len(cps); i++ {
		r := [2]rune{cps[i], cps[i]}
		if i+2 < len(cps) && cps[i+1] == '-' {
			r[1] = cps[i+2]
			i += 2
		}
		ranges = append(ranges, r)
	}
	return func(cp rune, _ class) bool {
		for _, r := range ranges {
			if r[0] <= cp && cp <= r[1] {
				return true
			}
		}
		return false
	}
}

func one(s set) part         { return part{set: s, min: 1, max: 1} }
func optional(s set) part    { return part{set: s, min: 0, max: 1} }
func star(s set) part        { return part{set: s, min: 0, max: -1} }
func plus(s set) part        { return part{set: s, min: 1, max: -1} }
func upTo(s set, n int) part { return part{set: s, min: 1, max: n} }
func beforeSpace() part      { return part{look: true} }
func maybe(p pattern) part   { return part{maybe: p} }

// literal matches a text.
func literal(text string) (r rule) {
	for _, cp := range text {
		r = append(r, one(chars(string(cp))))
	}
	return r
}

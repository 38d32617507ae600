package tokenizer

import (
	"fmt"
	"math"
	"strings"
)

// blank stands for a space inside SentencePiece tokens.
const blank = "▁"

// spm is a SentencePiece vocabulary: neighbouring symbols join while the result
// is a token, best score first; what is no token is spelled in byte tokens.
type spm struct {
	vocab  *vocab
	scores []float32
	bytes  [256]int32 // the token of each byte, or -1
}

func newSPM(m Metadata) (*Tokenizer, error) {
	v, err := loadVocab(m, defaults{bos: 1, eos: 2, addBOS: true, addSpacePrefix: true})
	if err != nil {
		return nil, err
	}
	s := &spm{vocab: v}
	if s.scores, err = loadScores(m, v.len()); err != nil {
		return nil, err
	}
	for c := range s.bytes {
		s.bytes[c] = -1
		if id, ok := v.id(fmt.Sprintf("<0x%02X>", c)); ok {
			s.bytes[c] = id
		} else if id, ok := v.id(string([]byte{byte(c)})); ok {
			s.bytes[c] = id
		}
	}
	return &Tokenizer{v, s}, nil
}

// loadScores reads the scores, floats or integers; without them all are 0.
func loadScores(m Metadata, tokens int) ([]float32, error) {
	scores, ok := m.Floats("tokenizer.ggml.scores")
	if !ok {
		ints, _ := m.Ints("tokenizer.ggml.scores")
		for _, n := range ints {
			scores = append(scores, float32(n))
		}
		if len(ints) == 0 {
			return make([]float32, tokens), nil
		}
	}
	if len(scores) < tokens {
		return nil, fmt.Errorf("%w: %d tokens but %d scores", ErrMalformed, tokens, len(scores))
	}
	for i, score := range scores[:tokens] {
		if math.IsNaN(float64(score)) {
			return nil, fmt.Errorf("%w: the score of token %d is not a number", ErrMalformed, i)
		}
	}
	return scores[:tokens], nil
}

// piece is a stretch of the text: a symbol of the linked list. Length 0 means
// merged into its predecessor.
type piece struct {
	start, length, prev, next int32
}

// join is a possible merge of two pieces. It has lapsed when either has changed
// since, which shows in their lengths.
type join struct {
	score             float32
	left, right, size int32
}

func (j join) Before(o join) bool {
	return j.score > o.score || j.score == o.score && j.left < o.left
}

func (s *spm) encode(dst []int32, text string, afterSpecial bool) ([]int32, error) {
	if s.vocab.addSpacePrefix && afterSpecial {
		text = " " + text
	}
	text = strings.ReplaceAll(text, " ", blank)
	pieces := split8(text)
	var queue minHeap[join]
	offer := func(left, right int32) {
		l, r := pieces[left], pieces[right]
		size := l.length + r.length
		if int(size) > s.vocab.maxLen {
			return
		}
		if id, ok := s.vocab.id(text[l.start : l.start+size]); ok {
			queue.push(join{s.scores[id], left, right, size})
		}
	}
	for i := range len(pieces) - 1 {
		offer(int32(i), int32(i)+1)
	}
	for len(queue) > 0 {
		j := queue.pop()
		left, right := &pieces[j.left], &pieces[j.right]
		if left.length == 0 || right.length == 0 || left.length+right.length != j.size {
			continue
		}
		left.length, right.length = j.size, 0
		left.next = right.next
		if left.next >= 0 {
			pieces[left.next].prev = j.left
			offer(j.left, left.next)
		}
		if left.prev >= 0 {
			offer(left.prev, j.left)
		}
	}
	for i := int32(0); i >= 0; i = pieces[i].next {
		p := pieces[i]
		var err error
		if dst, err = s.spell(dst, text[p.start:p.start+p.length]); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// split8 cuts text into characters by their first bytes alone, as llama.cpp
// does: a stray byte is a character of its own, a cut one ends with the text.
func split8(text string) []piece {
	pieces := make([]piece, 0, len(text))
	for start := 0; start < len(text); {
		n := 1
		switch c := text[start]; {
		case c >= 0xF0:
			n = 4
		case c >= 0xE0:
			n = 3
		case c >= 0xC0:
			n = 2
		}
		n = min(n, len(text)-start)
		i := int32(len(pieces))
		pieces = append(pieces, piece{int32(start), int32(n), i - 1, i + 1})
		start += n
	}
	pieces[len(pieces)-1].next = -1
	return pieces
}

// spell appends the token of a symbol, or those of its bytes.
func (s *spm) spell(dst []int32, symbol string) ([]int32, error) {
	if id, ok := s.vocab.id(symbol); ok {
		return append(dst, id), nil
	}
	for i := range len(symbol) {
		id := s.bytes[symbol[i]]
		if id < 0 {
			return nil, fmt.Errorf("%w: no token for byte 0x%02X", ErrMalformed, symbol[i])
		}
		dst = append(dst, id)
	}
	return dst, nil
}

func (s *spm) decode(dst []byte, id int32) []byte {
	if c, ok := s.vocab.byteOf(id); ok {
		return append(dst, c)
	}
	return append(dst, strings.ReplaceAll(s.vocab.text(id), blank, " ")...)
}

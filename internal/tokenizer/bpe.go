package tokenizer

import (
	"fmt"
	"math"
	"strings"
)

// bpe is a byte-level BPE vocabulary. Symbols are the strings that occur in the
// merge list. A symbol that is a token has its number; the others follow.
type bpe struct {
	vocab        *vocab
	stages       []stage
	ignoreMerges bool

	bytes  [256]int32 // the symbol of each byte
	merges []merge    // by rank; lower ranks go first
	ranks  table      // of merges, by their pairs
	spell  [][]int32  // of each symbol beyond the tokens, the tokens it becomes
}

// merge joins two neighbouring symbols.
type merge struct {
	left, right, result int32
}

// hashPair spreads neighbouring numbers over the high bits (Fibonacci hashing).
func hashPair(left, right int32) uint64 {
	h := uint64(uint32(left))<<32 | uint64(uint32(right))
	return (h ^ h>>23) * 0x9E3779B97F4A7C15
}

// rank returns the place in the merge list of a pair of symbols.
func (b *bpe) rank(left, right int32) (int32, bool) {
	for r := range b.ranks.find(hashPair(left, right)) {
		if m := b.merges[r]; m.left == left && m.right == right {
			return r, true
		}
	}
	return 0, false
}

func newBPE(m Metadata) (*Tokenizer, error) {
	name, _ := m.String("tokenizer.ggml.pre")
	pre, err := pretokenizerOf(name)
	if err != nil {
		return nil, err
	}
	d := defaults{bos: 11, eos: 11, addBOS: pre.addBOS}
	if pre.noBOS {
		d.bos = -1
	}
	v, err := loadVocab(m, d)
	if err != nil {
		return nil, err
	}
	b := &bpe{vocab: v, stages: pre.stages, ignoreMerges: pre.ignoreMerges}
	if err := b.loadMerges(m); err != nil {
		return nil, err
	}
	return &Tokenizer{v, b}, nil
}

func (b *bpe) loadMerges(m Metadata) error {
	list, ok := m.Strings("tokenizer.ggml.merges")
	if !ok {
		return fmt.Errorf("%w: tokenizer.ggml.merges is missing or no list of strings", ErrMalformed)
	}
	if len(list) > math.MaxInt32/4 { // each may bring three symbols
		return fmt.Errorf("%w: %d merges", ErrMalformed, len(list))
	}
	others := map[string]int32{}
	symbol := func(text string) int32 {
		if id, ok := b.vocab.id(text); ok {
			return id
		}
		id, ok := others[text]
		if !ok {
			id = int32(b.vocab.len() + len(others))
			others[text] = id
			b.spell = append(b.spell, b.spelling(text))
		}
		return id
	}
	for c, cp := range alphabet {
		b.bytes[c] = symbol(string(cp))
	}
	b.ranks = newTable(len(list))
	b.merges = make([]merge, len(list))
	for rank, text := range list {
		// The separator is the first space that is not in front.
		cut := -1
		if text != "" {
			cut = strings.IndexByte(text[1:], ' ')
		}
		if cut < 0 {
			return fmt.Errorf("%w: merge %d is %q, not two symbols", ErrMalformed, rank, text)
		}
		left, right := text[:cut+1], text[cut+2:]
		m := merge{symbol(left), symbol(right), symbol(left + right)}
		b.merges[rank] = m
		if _, dup := b.rank(m.left, m.right); !dup {
			b.ranks.insert(hashPair(m.left, m.right), int32(rank))
		}
	}
	return nil
}

// spelling returns what a symbol that is no token becomes when no merge takes it:
// the tokens of its bytes as they are stored, which beyond ASCII are no tokens and
// vanish (llama.cpp does the same).
func (b *bpe) spelling(text string) (ids []int32) {
	for i := range len(text) {
		if id, ok := b.vocab.id(text[i : i+1]); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (b *bpe) encode(dst []int32, text string, _ bool) ([]int32, error) {
	cps, text := decode(text)
	t := newRunes(cps)
	var w word
	start, cp := 0, 0
	for _, end := range split(b.stages, t) {
		size := 0
		for ; cp < end; cp++ {
			size += byteLen(cps[cp])
		}
		dst = b.encodeWord(dst, text[start:start+size], &w)
		start += size
	}
	return dst, nil
}

// word is the scratch space of encodeWord: a linked list of symbols and the
// queue of merges that are possible.
type word struct {
	nodes []node
	queue minHeap[candidate]
	text  []byte
}

type node struct {
	symbol, prev, next int32 // symbol -1: merged into its predecessor
}

// candidate is a possible merge: its rank above the position of the left node,
// so that they sort as llama.cpp takes them. It has lapsed when that pair is no
// longer there.
type candidate uint64

func (c candidate) Before(o candidate) bool { return c < o }

func (b *bpe) encodeWord(dst []int32, text string, w *word) []int32 {
	if b.ignoreMerges {
		w.text = w.text[:0]
		for i := range len(text) {
			w.text = appendLoose(w.text, alphabet[text[i]])
		}
		if id, ok := b.vocab.id(string(w.text)); ok {
			return append(dst, id)
		}
	}
	w.nodes, w.queue = w.nodes[:0], w.queue[:0]
	for i := range len(text) {
		w.nodes = append(w.nodes, node{b.bytes[text[i]], int32(i) - 1, int32(i) + 1})
	}
	w.nodes[len(w.nodes)-1].next = -1
	for i := range len(w.nodes) - 1 {
		b.offer(w, int32(i))
	}
	for len(w.queue) > 0 {
		c := w.queue.pop()
		m, at := b.merges[c>>32], int32(uint32(c))
		left := &w.nodes[at]
		if left.symbol != m.left || left.next < 0 || w.nodes[left.next].symbol != m.right {
			continue
		}
		right := &w.nodes[left.next]
		left.symbol, right.symbol = m.result, -1
		left.next = right.next
		if left.next >= 0 {
			w.nodes[left.next].prev = at
			b.offer(w, at)
		}
		if left.prev >= 0 {
			b.offer(w, left.prev)
		}
	}
	for i := int32(0); i >= 0; i = w.nodes[i].next {
		symbol := w.nodes[i].symbol
		if n := b.vocab.len(); int(symbol) < n {
			dst = append(dst, symbol)
		} else {
			dst = append(dst, b.spell[int(symbol)-n]...)
		}
	}
	return dst
}

// offer queues the merge of a node with the next, if the list has one.
func (b *bpe) offer(w *word, left int32) {
	node := &w.nodes[left]
	if rank, ok := b.rank(node.symbol, w.nodes[node.next].symbol); ok {
		w.queue.push(candidate(uint64(rank)<<32 | uint64(uint32(left))))
	}
}

func (b *bpe) decode(dst []byte, id int32) []byte {
	if c, ok := b.vocab.byteOf(id); ok {
		return append(dst, c)
	}
	for _, cp := range b.vocab.text(id) {
		if c, ok := alphabetBytes[cp]; ok {
			dst = append(dst, c)
		} else {
			dst = appendLoose(dst, cp)
		}
	}
	return dst
}

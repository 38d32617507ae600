package tokenizer

import (
	"fmt"
	"math"
	"strings"
)

// bpe is a byte-level BPE vocabulary. Symbols are the strings that occur in the
// merge list, numbered; a symbol need not be a token.
type bpe struct {
	vocab        *vocab
	stages       []stage
	ignoreMerges bool

	bytes  [256]int32       // the symbol of each byte
	ranks  map[uint64]int32 // the rank of each pair of symbols that merges
	merges []merge          // by rank; lower ranks go first
	tokens []int32          // the token of each symbol, or -1
	spell  map[int32][]int32
}

// merge joins two neighbouring symbols.
type merge struct {
	left, right, result int32
}

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

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
	b := &bpe{vocab: v, stages: pre.stages, ignoreMerges: pre.ignoreMerges, spell: map[int32][]int32{}}
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
	if len(list) > math.MaxInt32/2 {
		return fmt.Errorf("%w: %d merges", ErrMalformed, len(list))
	}
	symbols := make(map[string]int32, len(b.vocab.texts))
	symbol := func(text string) int32 {
		id, ok := symbols[text]
		if !ok {
			id = int32(len(symbols))
			symbols[text] = id
			b.addSymbol(id, text)
		}
		return id
	}
	for c, cp := range alphabet {
		b.bytes[c] = symbol(string(cp))
	}
	b.ranks = make(map[uint64]int32, len(list))
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
		b.merges[rank] = merge{symbol(left), symbol(right), symbol(left + right)}
		key := pairKey(b.merges[rank].left, b.merges[rank].right)
		if _, dup := b.ranks[key]; !dup {
			b.ranks[key] = int32(rank)
		}
	}
	return nil
}

// addSymbol records which tokens a symbol becomes when no merge takes it: its
// own, or else those of its bytes as they are stored, which beyond ASCII are no
// tokens and vanish (llama.cpp does the same).
func (b *bpe) addSymbol(symbol int32, text string) {
	id, ok := b.vocab.ids[text]
	if !ok {
		id = -1
		for i := range len(text) {
			if t, ok := b.vocab.ids[text[i:i+1]]; ok {
				b.spell[symbol] = append(b.spell[symbol], t)
			}
		}
	}
	b.tokens = append(b.tokens, id)
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
		if id, ok := b.vocab.ids[string(w.text)]; ok {
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
		if id := b.tokens[symbol]; id >= 0 {
			dst = append(dst, id)
		} else {
			dst = append(dst, b.spell[symbol]...)
		}
	}
	return dst
}

// offer queues the merge of a node with the next, if the list has one.
func (b *bpe) offer(w *word, left int32) {
	node := &w.nodes[left]
	if rank, ok := b.ranks[pairKey(node.symbol, w.nodes[node.next].symbol)]; ok {
		w.queue.push(candidate(uint64(rank)<<32 | uint64(uint32(left))))
	}
}

func (b *bpe) decode(dst []byte, id int32) []byte {
	for _, cp := range b.vocab.texts[id] {
		if c, ok := alphabetBytes[cp]; ok {
			dst = append(dst, c)
		} else {
			dst = appendLoose(dst, cp)
		}
	}
	return dst
}

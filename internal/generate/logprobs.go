package generate

import (
	"errors"
	"math"
	"slices"
)

// leastLogprob stands for tokens that cannot come.
const leastLogprob = -9999

var errNotFinite = errors.New("the model's logits are no numbers: its weights or activations overflow")

// probability describes a chosen token and the likeliest alternatives, from the
// logits as the model gave them.
func (e *Engine) probability(id int32, piece []byte, row, top int) (Token, error) {
	logits, err := e.context.Row(row)
	if err != nil {
		return Token{}, err
	}
	largest := slices.Max(logits)
	sum := 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - float64(largest))
	}
	norm := math.Log(sum) + float64(largest)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return Token{}, errNotFinite
	}
	logprob := func(id int32) float64 { return max(float64(logits[id])-norm, leastLogprob) }
	t := Token{ID: id, Piece: piece, Logprob: logprob(id)}
	for _, best := range likeliest(logits, top) {
		t.Top = append(t.Top, Alternative{best, e.model.Piece(best), logprob(best)})
	}
	return t, nil
}

// likeliest returns the n tokens with the largest logits, the largest first.
func likeliest(logits []float32, n int) []int32 {
	best := make([]int32, 0, n+1)
	for i, x := range logits {
		if len(best) == n && (n == 0 || !(x > logits[best[n-1]])) {
			continue
		}
		at := len(best)
		for at > 0 && x > logits[best[at-1]] {
			at--
		}
		best = slices.Insert(best, at, int32(i))
		best = best[:min(len(best), n)]
	}
	return best
}

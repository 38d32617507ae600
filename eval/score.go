package eval

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

// negLogProb returns -ln softmax(logits)[token], computed in float64.
func negLogProb(logits []float32, token int32) float64 {
	top := logits[0]
	for _, x := range logits {
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - float64(top))
	}
	return math.Log(sum) + (float64(top) - float64(logits[token]))
}

// scoreRows fills out with the negative log-probability of each target, given
// the row of logits that predicts it. Rows are spread over the processors; the
// result does not depend on their number.
func scoreRows(out []float64, logits []float32, targets []int32) {
	vocab := len(logits) / len(targets)
	workers := min(runtime.GOMAXPROCS(0), len(targets))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(targets); i += workers {
				out[i] = negLogProb(logits[i*vocab:(i+1)*vocab], targets[i])
			}
		})
	}
	wg.Wait()
}

// checkTokens refuses ids that would make a model read outside its tables.
func checkTokens(window []int32, vocab int) error {
	for i, id := range window {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("token %d of the window is %d, outside the vocabulary of %d", i, id, vocab)
		}
	}
	return nil
}

// checkWindow refuses what cannot be scored.
func checkWindow(window []int32, from, vocab int) error {
	if from < 1 || from >= len(window) {
		return fmt.Errorf("score a window of %d tokens from token %d on: nothing to score", len(window), from)
	}
	return checkTokens(window, vocab)
}

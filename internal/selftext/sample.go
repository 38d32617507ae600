package selftext

import (
	"math"
	"math/rand/v2"

	"besa/internal/kernel"
)

// forbid makes tokens impossible.
func forbid(logits []float32, ids []int32) {
	for _, id := range ids {
		if int(id) < len(logits) {
			logits[id] = -math.MaxFloat32 / 4
		}
	}
}

// sample draws a token with probability softmax(logits), and overwrites the
// logits; -1: they are not finite.
func sample(logits []float32, rng *rand.Rand) int32 {
	sum := kernel.ExpSum(logits, logits, kernel.Max(logits))
	if !(sum >= 1 && sum <= math.MaxFloat32) {
		return -1
	}
	rest := rng.Float32() * sum
	last := int32(-1)
	for id, p := range logits {
		if p > 0 {
			last = int32(id)
			if rest -= p; rest < 0 {
				break
			}
		}
	}
	return last
}

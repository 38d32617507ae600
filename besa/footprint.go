package besa

import "besa/internal/decoder"

// Footprint estimates the memory, in bytes, that PruneBlock holds at its peak
// for windows of tokens tokens, the block's own weights included and the
// windows excluded: what is as large as the weights or as one window's
// activations is counted, the rest is not.
func Footprint(c decoder.Config, tokens int, o Options) int64 {
	const float = 4
	hidden, ffn, query, kv := int64(c.Hidden), int64(c.FFN), int64(c.QDim()), int64(c.KVDim())
	var weights, rows, groups int64
	for l := range decoder.NumLinears {
		r, cols := c.Shape(l)
		weights += int64(r) * int64(cols)
		rows += int64(r)
		if o.Grid != GridNone {
			groups += int64(r) * int64((cols+o.Group-1)/o.Group)
		}
	}
	perWeight := int64(float + float + 2)         // the block, the masked block, ranks
	perToken := 4*hidden + 2*query + 2*kv + 3*ffn // activations
	total := int64(0)
	if o.Grid != GridNone {
		perWeight++                 // codes
		total += groups * 8 * float // ends, step, zero, clipping logit, strength, slope and gradient
		if o.Method == MethodBESA || o.Refine.Passes > 0 {
			total += groups * 2 * float // Adam's moments
		}
	}
	if o.Method == MethodBESA || o.Refine.Passes > 0 {
		perWeight += float                            // gradients
		perToken += 4*hidden + 4*query + 2*kv + 2*ffn // gradients of activations
	}
	if o.Method == MethodBESA {
		// Logits, β, gradient, slope; Prodigy's four vectors.
		total += rows * int64(len(NewCandidates(o.Step, o.Rule).P)) * 8 * float
	}
	switch {
	case o.Refine.Passes > 0:
		perWeight += 3 * float // Adam's moments, the best weights so far
	case o.Refine.Along:
		perWeight += 2 * float
	}
	if o.NeedsHessians() {
		widest := max(hidden, query, ffn)
		// The Hessians with their factors, and what inverting one takes.
		total += 2 * float * (2*hidden*hidden + query*query + ffn*ffn + widest*widest)
	}
	if o.Method == MethodBESA {
		switch o.LossGranularity {
		case LossPerLayer:
			perToken += 3 * max(hidden, query, kv, ffn) // reference, output and gradient of one layer
		case LossPerHalf:
			perToken += hidden // reference
		case LossPerPair: // everything but the scores twice
			total, perWeight, perToken = 2*total, 2*perWeight, 2*perToken
		}
	}
	scores := 4 * queryBlock * int64(tokens)
	return total + perWeight*weights + float*(perToken*int64(tokens)+scores)
}

// queryBlock is the number of queries whose attention scores exist at a time.
const queryBlock = 64

// Package besa prunes and quantises one transformer block at a time.
//
// In: a decoder block, the hidden states that enter it, and Options. Out: the
// block's survivors (masks, weights, 4-bit codes and scales) and the hidden
// states that the pruned block hands to the next one. It knows no files, flags
// or formats; package convert does.
//
// The method is BESA (Xu et al., ICLR 2024). The paper's symbols in the code:
//
//	p_d, d = 0…D     Candidates.P       candidate sparsities, 1 … 0
//	β                Allocation.Beta    one distribution over candidates per row
//	α = Σ β_d p_d    Allocation.Alpha   a row's learned sparsity (Eq 3)
//	P(prune at rank) Allocation         sum of β_d over candidates that reach the rank (Eq 4)
//	M                mask bits          1 = kept (Eq 5, see Allocation for the official rule)
//	α̂                Options.Sparsity   the target
//	λ                Options.Lambda     weight of the sparsity penalty
//	γ0, γ1           clip               learnable clipping strengths of the 4-bit grid (Eq 7)
//
// Importance is Wanda's |W|·‖X‖₂ (Eq 2). Where the paper and its published code
// differ, the code's behaviour is the default; docs/method.md lists the places.
package besa

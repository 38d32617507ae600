// Package decoder computes one transformer block of the LLaMA family, forward
// and backward, over one window of tokens.
//
// In: a Block (its weights), the hidden states of a window (tokens × hidden)
// and, for the backward pass, the loss's gradient with respect to the block's
// output. Out: the block's output, the inputs of every linear layer, and the
// gradient with respect to every linear layer's weights. The gradient with
// respect to the block's input is formed only on demand (InputGradient):
// pruning one block at a time has no use for it. The two halves, attention and
// feed-forward network, can be run by themselves.
//
//	x ─┬─ RMSNorm ─ q,k,v ─ (bias, norm) ─ rope ─ attention ─ o ─┬─ h
//	   └───────────────────────────────────────────────────────(+)
//	h ─┬─ RMSNorm ─ gate, up ─ silu(gate)·up ─ down ─┬─ out
//	   └───────────────────────────────────────────(+)
//
// Everything is generic over float32, which runs on the assembly kernels, and
// float64, which exists so that gradients can be checked against finite
// differences. Results do not depend on the number of threads.
package decoder

import (
	"fmt"

	"besa/internal/kernel"
)

// Linear names one of the seven linear layers of a block.
type Linear int

// The linear layers in the order in which the block uses them.
const (
	Q Linear = iota
	K
	V
	O
	Gate
	Up
	Down
	NumLinears
)

var linearNames = [NumLinears]string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}

// String returns the layer's name in GGUF files, as in "blk.0.attn_q.weight".
func (l Linear) String() string {
	if l < 0 || l >= NumLinears {
		return fmt.Sprintf("linear(%d)", int(l))
	}
	return linearNames[l]
}

// SameInput names, for every linear layer, the first that has the same input.
var SameInput = [NumLinears]Linear{Q: Q, K: Q, V: Q, O: O, Gate: Gate, Up: Gate, Down: Down}

// Block holds the parameters of one decoder block.
type Block[T kernel.Float] struct {
	W        [NumLinears]kernel.Mat[T] // rows = output channels, columns = input channels
	Bias     [O][]T                    // of q, k and v; nil without
	AttnNorm []T                       // hidden
	FFNNorm  []T                       // hidden
	QNorm    []T                       // head size, or nil: RMSNorm of every query head before rope
	KNorm    []T                       // head size, or nil
}

// Check reports the first parameter whose shape does not fit the configuration.
func (b *Block[T]) Check(c Config) error {
	for l := range NumLinears {
		rows, cols := c.Shape(l)
		if b.W[l].Rows != rows || b.W[l].Cols != cols {
			return fmt.Errorf("%s is %d×%d, not %d×%d", l, b.W[l].Rows, b.W[l].Cols, rows, cols)
		}
	}
	for l, bias := range b.Bias {
		if rows, _ := c.Shape(Linear(l)); bias != nil && len(bias) != rows {
			return fmt.Errorf("%s bias has %d values, not %d", Linear(l), len(bias), rows)
		}
	}
	for _, n := range []struct {
		name     string
		v        []T
		want     int
		optional bool
	}{
		{"attn_norm", b.AttnNorm, c.Hidden, false}, {"ffn_norm", b.FFNNorm, c.Hidden, false},
		{"attn_q_norm", b.QNorm, c.HeadDim, true}, {"attn_k_norm", b.KNorm, c.HeadDim, true},
	} {
		if len(n.v) != n.want && !(n.optional && n.v == nil) {
			return fmt.Errorf("%s has %d values, not %d", n.name, len(n.v), n.want)
		}
	}
	return nil
}

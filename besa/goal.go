package besa

import (
	"fmt"

	"besa/internal/decoder"
)

// Target is a sparsity that one layer is to have, whatever the others have.
type Target struct {
	Set      bool
	Sparsity float64
}

// goal is a sparsity that some layers of a block meet together.
type goal struct {
	layers   []decoder.Linear
	params   int // weights in the layers
	sparsity float64
	rest     bool // the layers have no targets of their own
}

// shares lists the layers that share what is left of a block's sparsity.
func (g LossGranularity) shares() [][]decoder.Linear {
	attention := []decoder.Linear{decoder.Q, decoder.K, decoder.V, decoder.O}
	ffn := []decoder.Linear{decoder.Gate, decoder.Up, decoder.Down}
	switch g {
	case LossPerLayer:
		var each [][]decoder.Linear
		for l := range decoder.NumLinears {
			each = append(each, []decoder.Linear{l})
		}
		return each
	case LossPerHalf:
		return [][]decoder.Linear{attention, ffn}
	}
	return [][]decoder.Linear{append(attention, ffn...)}
}

// goals splits a block: every layer with a target of its own is one goal; the
// others have what is left of the block's sparsity, and those that share a
// loss meet it together. params are the layers' numbers of weights.
func (o Options) goals(params [decoder.NumLinears]int) ([]goal, error) {
	var all []goal
	var left, total float64 // weights that the others must prune, and all that they have
	for l, n := range params {
		left += o.Sparsity * float64(n)
		if t := o.Targets[l]; t.Set {
			all = append(all, goal{layers: []decoder.Linear{decoder.Linear(l)}, params: n, sparsity: t.Sparsity})
			left -= t.Sparsity * float64(n)
		} else {
			total += float64(n)
		}
	}
	if total == 0 {
		return all, nil
	}
	sparsity := left / total
	if len(all) == 0 {
		sparsity = o.Sparsity // to the last bit
	}
	if sparsity < 0 || sparsity >= 1 {
		return nil, fmt.Errorf("%w: with these targets of single tensors the others would need sparsity %.3f to reach %g over all: change them or the overall sparsity",
			ErrOptions, sparsity, o.Sparsity)
	}
	for _, share := range o.LossGranularity.shares() {
		rest := goal{sparsity: sparsity, rest: true}
		for _, l := range share {
			if !o.Targets[l].Set {
				rest.layers = append(rest.layers, l)
				rest.params += params[l]
			}
		}
		if rest.params > 0 {
			all = append(all, rest)
		}
	}
	return all, nil
}

// codeColumns is what the columns of a layer with a 4-bit grid are a multiple of:
// the block of Q4_0 and Q4_1.
const codeColumns = 32

// Check reports why a block of shape c cannot be pruned by these options.
func (o Options) Check(c decoder.Config) error {
	if err := o.Validate(); err != nil {
		return err
	}
	var params [decoder.NumLinears]int
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		params[l] = rows * cols
		switch {
		case cols > maxColumns:
			return fmt.Errorf("%w: %s has %d columns, more than %d", ErrOptions, l, cols, maxColumns)
		case o.Grid != GridNone && cols%codeColumns != 0:
			return fmt.Errorf("%w: %s has %d columns: a 4-bit grid needs a multiple of %d", ErrOptions, l, cols, codeColumns)
		}
	}
	_, err := o.goals(params)
	return err
}

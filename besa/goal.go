package besa

import (
	"fmt"
	"math"

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
}

// goals splits a block: every layer with a target of its own is one goal, the
// others meet together what is left of the block's sparsity. params are the
// layers' numbers of weights.
func (o Options) goals(params [decoder.NumLinears]int) ([]goal, error) {
	var all []goal
	var rest goal
	var left float64 // weights that the others must prune
	for _, n := range params {
		left += o.Sparsity * float64(n)
	}
	for l, n := range params {
		t := o.Targets[l]
		if !t.Set {
			rest.layers = append(rest.layers, decoder.Linear(l))
			rest.params += n
			continue
		}
		all = append(all, goal{[]decoder.Linear{decoder.Linear(l)}, n, t.Sparsity})
		left -= t.Sparsity * float64(n)
	}
	if rest.params == 0 {
		return all, nil
	}
	rest.sparsity = left / float64(rest.params)
	if len(all) == 0 {
		rest.sparsity = o.Sparsity // to the last bit
	}
	if rest.sparsity < 0 || rest.sparsity >= 1 {
		return nil, fmt.Errorf("%w: with these targets of single tensors the others would need sparsity %.3f to reach %g over all: change them or the overall sparsity",
			ErrOptions, rest.sparsity, o.Sparsity)
	}
	return append(all, rest), nil
}

// Check reports why a block of shape c cannot be pruned by these options.
func (o Options) Check(c decoder.Config) error {
	if err := o.Validate(); err != nil {
		return err
	}
	var params [decoder.NumLinears]int
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		params[l] = rows * cols
	}
	_, err := o.goals(params)
	return err
}

// weights is the number of weights that the goal prunes.
func (g goal) weights() int { return int(math.Round(g.sparsity * float64(g.params))) }

// learned reports whether a goal leaves anything to learn: layers of sparsity
// zero stay as they are.
func (g goal) learned() bool { return g.sparsity > 0 }

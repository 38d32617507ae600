package convert

import (
	"fmt"
	"path"

	"besa/besa"
	"besa/internal/decoder"
)

// Target is a sparsity for the tensors whose name matches Pattern, in the form
// of path.Match: "attn_v" and "ffn_*" match a linear layer in every block,
// "blk.0.*" and "blk.3.ffn_down" those of one. The other layers of a block make
// up for it.
type Target struct {
	Pattern  string
	Sparsity float64
}

// matches tells whether the target means layer l of block b.
func (t Target) matches(b int, l decoder.Linear) (bool, error) {
	for _, name := range []string{l.String(), fmt.Sprintf("blk.%d.%s", b, l)} {
		ok, err := path.Match(t.Pattern, name)
		if err != nil {
			return false, fmt.Errorf("%w: pattern %q of a target sparsity: %w", besa.ErrOptions, t.Pattern, err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// methodFor is the method with the targets of block b's layers; of targets
// that mean the same layer the last one counts.
func (o *Options) methodFor(b int) besa.Options {
	m := o.Method
	for _, t := range o.Targets {
		for l := range decoder.NumLinears {
			if ok, _ := t.matches(b, l); ok {
				m.Targets[l] = besa.Target{Set: true, Sparsity: t.Sparsity}
			}
		}
	}
	return m
}

// checkTargets refuses targets that mean no layer, or that some block cannot meet.
func (o *Options) checkTargets(c decoder.Config, blocks int) error {
	for _, t := range o.Targets {
		used := false
		for b := range blocks {
			for l := range decoder.NumLinears {
				ok, err := t.matches(b, l)
				if err != nil {
					return err
				}
				used = used || ok
			}
		}
		if !used {
			return fmt.Errorf("%w: target sparsity for %q: no linear layer has such a name; they are called attn_q … ffn_down, or blk.0.attn_q",
				besa.ErrOptions, t.Pattern)
		}
	}
	for b := range blocks {
		if err := o.methodFor(b).Check(c); err != nil {
			return fmt.Errorf("block %d: %w", b, err)
		}
	}
	return nil
}

package besa

import "besa/internal/decoder"

// rankEvery is the number of steps after which the weights are ranked again
// while they move.
const rankEvery = 4

// along moves the surviving weights by Adam while the allocation that decides
// which survive is learned by the same loss, and ranks them again every few
// steps: what has become important survives, what has become unimportant goes
// (Refine.Along). A weight that is pruned keeps its value, so it can return.
type along struct {
	members []member
	weights *adam
	steps   int
}

func newAlong(members []member) *along {
	var params []param
	for _, m := range members {
		params = append(params, param{m.s.Block.W[m.l].Data, m.s.grads.W[m.l].Data})
	}
	s := members[0].s
	return &along{members: members, weights: newAdam(s.pool, s.opts.Refine.LR, params...)}
}

func (a *along) step() {
	for _, m := range a.members {
		dw := m.s.grads.W[m.l]
		applyMask(m.s.pool, dw, dw, m.s.rank[m.l], m.s.prune[m.l])
	}
	a.weights.step()
	a.steps++
	if a.steps%rankEvery != 0 {
		return
	}
	for _, m := range a.members {
		m.s.rankAgain(m.l)
	}
}

// rankAgain ranks the weights of layer l as they have become. Weights that are
// not finite cannot be ranked; the next loss reports them.
func (s *session) rankAgain(l decoder.Linear) {
	_ = s.order(l, s.importanceScales(l))
}

// importanceScales is what |w| is multiplied by to rank the weights of layer l
// for BESA, per input channel; nil: by one.
func (s *session) importanceScales(l decoder.Linear) []float32 {
	switch s.opts.Importance {
	case ImportanceWeight:
		return nil
	case ImportanceSparseGPT:
		return s.factor[l].scales()
	}
	return s.norms[l].Norms()
}

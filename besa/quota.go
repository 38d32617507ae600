package besa

import "math"

// quota is a goal with the layers at work that are to meet it.
type quota struct {
	members  []member
	params   int // weights in the members
	sparsity float64
}

// quotasOf gathers the sessions' goals; what their other layers share is one
// quota for all of them. Masks of a fixed shape meet theirs by themselves.
func quotasOf(sessions ...*session) []quota {
	var all []quota
	var rest quota
	for _, s := range sessions {
		if s.opts.Pattern.M > 0 {
			continue
		}
		for _, g := range s.goals {
			q := quota{params: g.params, sparsity: g.sparsity}
			for _, l := range g.layers {
				q.members = append(q.members, member{s, l})
			}
			if len(sessions) == 1 || !g.rest {
				all = append(all, q)
				continue
			}
			rest.members = append(rest.members, q.members...)
			rest.sparsity += (q.sparsity - rest.sparsity) * float64(q.params) / float64(rest.params+q.params)
			rest.params += q.params
		}
	}
	if rest.params > 0 {
		all = append(all, rest)
	}
	return all
}

// weights is the number of weights that the quota prunes.
func (q quota) weights() int { return int(math.Round(q.sparsity * float64(q.params))) }

// learned reports whether a quota leaves anything to learn: layers of sparsity
// zero stay as they are.
func (q quota) learned() bool { return q.sparsity > 0 }

// settle turns the members' learned sparsities into counts that meet the quota
// exactly.
func (q quota) settle() {
	allocs := make([]*Allocation, len(q.members))
	for i, m := range q.members {
		allocs[i] = m.alloc()
	}
	for i, counts := range exactCounts(allocs, q.weights()) {
		m := q.members[i]
		m.s.prune[m.l] = counts
	}
}

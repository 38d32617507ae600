package convert

import "besa/besa"

// entry is one metadata value before it is encoded.
type entry struct {
	key   string
	value any
}

// methodEntries are the metadata that say by which options weights were chosen.
func methodEntries(m besa.Options) []entry {
	entries := []entry{{"besa.method", string(m.Method)}}
	if m.Pattern.M != 0 {
		entries = append(entries, entry{"besa.pattern", m.Pattern.String()})
	}
	if m.Method == besa.MethodBESA {
		entries = append(entries,
			entry{"besa.importance", string(m.Importance)},
			entry{"besa.allocation.granularity", string(m.Granularity)},
			entry{"besa.allocation.reference", string(m.Reference)},
			entry{"besa.allocation.loss", string(m.Loss)},
			entry{"besa.allocation.loss_granularity", string(m.LossGranularity)},
			entry{"besa.allocation.plain_softmax", m.Plain},
			entry{"besa.allocation.step", m.Step},
			entry{"besa.allocation.lambda", m.Lambda},
			entry{"besa.allocation.optimizer", string(m.Optimizer)},
			entry{"besa.allocation.epochs", uint32(m.Epochs)},
			entry{"besa.allocation.expected_counts", m.Expected},
		)
		switch m.Optimizer {
		case besa.OptimizerProdigy:
			entries = append(entries, entry{"besa.allocation.d_coef", m.DCoef})
		case besa.OptimizerAdamW:
			entries = append(entries, entry{"besa.allocation.lr", m.LR})
		}
	}
	if m.Refine.Solve {
		entries = append(entries, entry{"besa.refinement.solve", true})
	}
	if m.Refine.Passes > 0 {
		entries = append(entries,
			entry{"besa.refinement.passes", uint32(m.Refine.Passes)},
			entry{"besa.refinement.lr", m.Refine.LR},
			entry{"besa.refinement.reference", string(m.Refine.Reference)},
		)
	}
	if m.Grid != besa.GridNone {
		entries = append(entries,
			entry{"besa.quantisation.grid", string(m.Grid)},
			entry{"besa.quantisation.group", uint32(m.Group)},
			entry{"besa.quantisation.clip_lr", m.ClipLR},
		)
	}
	return entries
}

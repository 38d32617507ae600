package convert

import (
	"path/filepath"

	"besa/besa"
)

// entry is one metadata value before it is encoded.
type entry struct {
	key   string
	value any
}

// methodEntries are the metadata that say by which options weights were chosen.
func methodEntries(m besa.Options) []entry {
	entries := []entry{{"besa.method", string(m.Method)}}
	if m.Pattern.M != 0 {
		entries = append(entries, entry{"besa.mask_shape", m.Pattern.String()})
	}
	if m.Method == besa.MethodBESA {
		entries = append(entries,
			entry{"besa.importance", string(m.Importance)},
			entry{"besa.allocation.granularity", string(m.Granularity)},
			entry{"besa.allocation.reference", string(m.Reference)},
			entry{"besa.allocation.loss", string(m.Loss)},
			entry{"besa.allocation.loss_granularity", string(m.LossGranularity)},
			entry{"besa.allocation.mask_rule", string(m.Rule)},
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
	if m.Refine.Solve != besa.SolveNone {
		entries = append(entries, entry{"besa.refinement.solve", string(m.Refine.Solve)})
	}
	if m.Refine.Passes > 0 || m.Refine.Along {
		entries = append(entries,
			entry{"besa.refinement.along", m.Refine.Along},
			entry{"besa.refinement.passes", uint32(m.Refine.Passes)},
			entry{"besa.refinement.remask", m.Refine.Remask},
			entry{"besa.refinement.norms", m.Refine.Norms},
			entry{"besa.refinement.lr", m.Refine.LR},
			entry{"besa.refinement.reference", string(m.Refine.Reference)},
			entry{"besa.refinement.loss", string(m.Refine.Loss)},
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

// calibrationEntries are the metadata that say which windows were used.
func (r *runner) calibrationEntries() []entry {
	c := r.Calibration
	entries := []entry{{"besa.calibration.sampling", string(r.sampling)}}
	if r.imatrix != nil {
		entries = append(entries, entry{"besa.imatrix.name", filepath.Base(r.Imatrix)}, entry{"besa.imatrix.sha256", r.imatrix.sum})
	}
	if r.sampling == SamplingNone {
		return entries
	}
	if c.Path != "" {
		entries = append(entries,
			entry{"besa.calibration.name", filepath.Base(c.Path)},
			entry{"besa.calibration.sha256", r.textHash},
			entry{"besa.calibration.stride", uint32(c.Stride)},
		)
	}
	return append(entries,
		entry{"besa.calibration.windows", uint32(c.Samples)},
		entry{"besa.calibration.window_tokens", uint32(c.Len)},
		entry{"besa.calibration.windows_sha256", r.windowsHash},
	)
}

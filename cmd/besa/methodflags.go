package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/pflag"

	"besa/besa"
)

// refinement names what --refine does.
type refinement string

// refinements are the choices and what they mean.
var refinements = map[refinement]struct {
	solve besa.Solver
	tune  bool
}{
	refineAuto:   {}, // tune where besa chooses, else off
	"off":        {},
	"tune":       {tune: true},                         // Adam on the block's loss
	"solve":      {solve: besa.SolveSweep},             // masked GPTQ
	"solve+tune": {solve: besa.SolveSweep, tune: true}, // one after the other
	"pcg":        {solve: besa.SolvePCG},
	"pcg+tune":   {solve: besa.SolvePCG, tune: true},
}

const refineAuto, refineAlone refinement = "auto", "tune"

// methodFlags are the flags that choose and tune the method; they are read
// into options once all are parsed.
type methodFlags struct {
	options *besa.Options
	pattern string
	refine  refinement
	passes  int
	along   bool
	flags   *pflag.FlagSet
}

// bindMethod adds the method's flags to f.
func bindMethod(f *pflag.FlagSet, o *besa.Options) *methodFlags {
	m := &methodFlags{options: o, flags: f, refine: refineAuto}
	choice(f, &o.Method, "method", "what chooses the weights to drop", besa.Methods)
	f.Float64Var(&o.Sparsity, "sparsity", o.Sparsity, "fraction of weights to prune")
	f.StringVar(&m.pattern, "mask-shape", "", "N:M, as in 32:64 or 2:4: exactly N of every M neighbours in a row survive (sets the sparsity); 32:64 runs fastest natively")
	choice(f, &o.Importance, "importance", "metric that orders the weights of a row for besa", besa.Importances)
	choice(f, &o.Granularity, "granularity", "what shares one learned sparsity", besa.Granularities)
	choice(f, &o.Loss, "loss", "form of the loss", besa.LossForms)
	choice(f, &o.Rule, "mask-rule", "how many weights of a row its learned distribution prunes: α of them, or the paper's Eq 5", besa.MaskRules)
	choice(f, &o.LossGranularity, "loss-granularity", "what one loss is taken over, and meets the target sparsity as a whole", besa.LossGranularities)
	choice(f, &o.Optimizer, "optimizer", "what moves the sparsities", besa.Optimizers)
	f.Float64Var(&o.DCoef, "d-coef", o.DCoef, "Prodigy's step coefficient")
	f.Float64Var(&o.LR, "lr", o.LR, "AdamW's step")
	f.IntVar(&o.Epochs, "epochs", o.Epochs, "passes over the calibration windows per block")
	f.Float64Var(&o.Step, "step", o.Step, "distance of the candidate sparsities")
	f.Float64Var(&o.Lambda, "lambda", o.Lambda, "weight of the sparsity penalty")
	f.BoolVar(&o.Plain, "plain-softmax", o.Plain, "no sigmoid before the softmax over candidates")
	choice(f, &o.Reference, "reference", "inputs of the dense block whose output besa reproduces", besa.Paths)
	choice(f, &m.refine, "refine", "what is done for the survivors; auto tunes them after besa and does nothing after the baselines, --refine alone tunes", slices.Sorted(maps.Keys(refinements)))
	f.Lookup("refine").NoOptDefVal = string(refineAlone)
	f.IntVar(&m.passes, "refine-passes", besa.RefinePasses, "passes of --refine over the calibration windows")
	f.BoolVar(&m.along, "refine-along", true, "--refine moves weights while besa learns its allocation too, and ranks them again as they move")
	f.BoolVar(&o.Refine.Remask, "refine-remask", false, "--refine chooses the masks again during the first half of its passes, every row keeping its number of survivors")
	f.BoolVar(&o.Refine.Norms, "refine-norms", false, "the passes of --refine move the gains of the blocks' norms too, which are then stored as float32")
	f.Float64Var(&o.Refine.LR, "refine-lr", o.Refine.LR, "step of --refine at its start")
	choice(f, &o.Refine.Reference, "refine-reference", "inputs of the dense block whose output --refine reproduces", besa.Paths)
	choice(f, &o.Refine.Loss, "refine-loss", "form of the loss that --refine lowers", besa.LossForms)
	f.BoolVar(&o.Expected, "expected-counts", o.Expected, "keep the learned counts, which meet the target only nearly")
	return m
}

// complete derives what the flags say together.
func (m *methodFlags) complete() error {
	if m.refine == refineAuto && m.options.Method == besa.MethodBESA {
		m.refine = refineAlone
	}
	chosen := refinements[m.refine]
	for _, name := range []string{"refine-along", "refine-passes", "refine-remask", "refine-norms", "refine-lr", "refine-reference", "refine-loss"} {
		if m.flags.Changed(name) && !chosen.tune {
			return fmt.Errorf("--%s shapes the tuning of survivors: add --refine=tune", name)
		}
	}
	if chosen.tune {
		*m.options = m.options.Refined()
		m.options.Refine.Passes = m.passes
		if m.flags.Changed("refine-along") {
			m.options.Refine.Along = m.along
		}
	}
	m.options.Refine.Solve = chosen.solve
	pattern, err := besa.ParsePattern(m.pattern)
	if err != nil {
		return err
	}
	m.options.Pattern = pattern
	if pattern.M != 0 && !m.flags.Changed("sparsity") {
		m.options.Sparsity = pattern.Sparsity()
	}
	return nil
}

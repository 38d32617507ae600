package main

import (
	"github.com/spf13/pflag"

	"besa/besa"
)

// methodFlags are the flags that choose and tune the method; they are read
// into options once all are parsed.
type methodFlags struct {
	options *besa.Options
	pattern string
	flags   *pflag.FlagSet
}

// bindMethod adds the method's flags to f.
func bindMethod(f *pflag.FlagSet, o *besa.Options) *methodFlags {
	m := &methodFlags{options: o, flags: f}
	choice(f, &o.Method, "method", "what chooses the weights to drop", besa.Methods)
	f.Float64Var(&o.Sparsity, "sparsity", o.Sparsity, "fraction of weights to prune")
	f.StringVar(&m.pattern, "pattern", "", "n:m masks such as 2:4 or 4:8 (pruned:group); wanda, magnitude and sparsegpt")
	choice(f, &o.Importance, "importance", "metric that orders the weights of a row for besa", besa.Importances)
	choice(f, &o.Granularity, "granularity", "what shares one learned sparsity", besa.Granularities)
	choice(f, &o.Loss, "loss", "form of the loss", besa.LossForms)
	choice(f, &o.Optimizer, "optimizer", "what moves the sparsities", besa.Optimizers)
	f.Float64Var(&o.DCoef, "d-coef", o.DCoef, "Prodigy's step coefficient")
	f.Float64Var(&o.LR, "lr", o.LR, "AdamW's step")
	f.IntVar(&o.Epochs, "epochs", o.Epochs, "passes over the calibration windows per block")
	f.Float64Var(&o.Step, "step", o.Step, "distance of the candidate sparsities")
	f.Float64Var(&o.Lambda, "lambda", o.Lambda, "weight of the sparsity penalty")
	f.BoolVar(&o.Plain, "plain-softmax", o.Plain, "no sigmoid before the softmax over candidates")
	f.BoolVar(&o.Expected, "expected-counts", o.Expected, "keep the learned counts, which meet the target only nearly")
	return m
}

// complete derives what the flags say together.
func (m *methodFlags) complete() error {
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

package ablate

import (
	"fmt"
	"slices"

	"besa/besa"
)

// defaultSamples is the number of calibration windows where none is given:
// the paper's.
const defaultSamples = 128

// minSamples is the least number of windows of the table of calibration sizes.
const minSamples = 8

// trial is one conversion of a table: what it is called there, and what it
// changes of the base options.
type trial struct {
	label   string
	x       float64 // where it is plotted
	series  string  // with which others it is plotted
	method  besa.Options
	samples int
	dense   bool // the model as it is
}

// table is one of the paper's experiments.
type table struct {
	name, title string
	about       string // what the paper has of it
	trials      []trial
	render      func(r *report, t table)
}

// TableNames lists the tables in the order of the report.
func TableNames() []string {
	var names []string
	for _, t := range allTables(besa.DefaultOptions(), defaultSamples) {
		names = append(names, t.name)
	}
	return names
}

// methods in the order of the tables and plots.
var methods = []besa.Method{besa.MethodMagnitude, besa.MethodWanda, besa.MethodSparseGPT, besa.MethodBESA}

// methodNames as the report has them.
var methodNames = map[besa.Method]string{
	besa.MethodMagnitude: "magnitude", besa.MethodWanda: "Wanda", besa.MethodSparseGPT: "SparseGPT", besa.MethodBESA: "BESA",
}

// allTables lists what can be measured around the base options.
func allTables(base besa.Options, samples int) []table {
	with := func(label string, x float64, change func(*besa.Options)) trial {
		m := base
		change(&m)
		return trial{label: label, x: x, method: m, samples: samples}
	}
	wanda := with("Wanda", 0, func(o *besa.Options) { o.Method = besa.MethodWanda })
	besaBase := with("BESA", 0, func(*besa.Options) {})
	return []table{
		{"sparsity", "Sparsity", "Figure 3", sparsityTrials(with), (*report).sparsity},
		{"layers", "Learned sparsity by layer", "Figure 1 (b)", []trial{besaBase}, (*report).layers},
		{"granularity", "Sparsity per row or per layer", "section 3.2", []trial{
			wanda,
			with("layer", 0, func(o *besa.Options) { o.Granularity = besa.GranularityLayer }),
			with("row", 0, func(o *besa.Options) { o.Granularity = besa.GranularityRow }),
		}, (*report).simple},
		{"loss-granularity", "Learning granularity", "Table 6 and Figure 5", lossTrials(with, wanda), (*report).lossGranularity},
		{"metric", "Importance metric", "Table 5, right", []trial{
			with("weight", 0, func(o *besa.Options) { o.Importance = besa.ImportanceWeight }),
			with("wanda", 0, func(o *besa.Options) { o.Importance = besa.ImportanceWanda }),
			with("sparsegpt", 0, func(o *besa.Options) { o.Importance = besa.ImportanceSparseGPT }),
		}, (*report).simple},
		{"step", "Distance of the candidate sparsities", "Table 5, middle", []trial{
			with("0.1", 0, func(o *besa.Options) { o.Step = 0.1 }),
			with("0.01", 0, func(o *besa.Options) { o.Step = 0.01 }),
			with("0.001", 0, func(o *besa.Options) { o.Step = 0.001 }),
		}, (*report).simple},
		{"joint", "Joint with 4-bit quantisation", "Table 3", jointTrials(with), (*report).joint},
		{"settings", "The official code's settings and others", "where they differ: docs/method.md", settingTrials(with), (*report).simple},
		{"refine", "Refinement of the survivors", "not in the paper", refineTrials(with), (*report).joint},
		{"patterns", "n:m patterns", "not in the paper", patternTrials(with), (*report).simple},
		{"calibration", "Calibration size", "Figure 4", calibrationTrials(besaBase), (*report).calibration},
		{"epochs", "Passes over the calibration windows", "Table 5, left", []trial{
			with("1", 1, func(o *besa.Options) { o.Epochs = 1 }),
			with("3", 3, func(o *besa.Options) { o.Epochs = 3 }),
			with("10", 10, func(o *besa.Options) { o.Epochs = 10 }),
		}, (*report).simple},
	}
}

type variant func(label string, x float64, change func(*besa.Options)) trial

// sparsityTrials has all methods at all sparsities, 50 % first: other tables
// share it.
func sparsityTrials(with variant) []trial {
	trials := []trial{{label: "dense", dense: true}}
	for _, s := range []float64{0.5, 0.3, 0.4, 0.6, 0.7} {
		for _, m := range slices.Backward(methods) {
			t := with(fmt.Sprintf("%s, %g %%", methodNames[m], 100*s), s, func(o *besa.Options) { o.Method, o.Sparsity = m, s })
			t.series = methodNames[m]
			trials = append(trials, t)
		}
	}
	return trials
}

func lossTrials(with variant, wanda trial) []trial {
	trials := []trial{wanda}
	for _, g := range besa.LossGranularities {
		trials = append(trials, with(string(g), 0, func(o *besa.Options) { o.LossGranularity = g }))
	}
	return trials
}

func jointTrials(with variant) []trial {
	var trials []trial
	for _, grid := range []besa.Grid{besa.GridSymmetric, besa.GridAsymmetric} {
		for _, m := range methods[1:] {
			name := methodNames[m] + ", rounded"
			if m == besa.MethodBESA {
				name = "BESA, joint"
			}
			trials = append(trials, with(fmt.Sprintf("%s, %s", name, grid), 0, func(o *besa.Options) { o.Method, o.Grid = m, grid }))
		}
	}
	return trials
}

// settingTrials has what the paper, or a choice that it leaves open, has otherwise.
func settingTrials(with variant) []trial {
	return []trial{
		with("official", 0, func(*besa.Options) {}),
		with("loss of Eq 1", 0, func(o *besa.Options) { o.Loss = besa.LossPaper }),
		with("masks of Eq 5", 0, func(o *besa.Options) { o.Rule = besa.RulePaper }),
		with("reference of Algorithm 1 (dense path)", 0, func(o *besa.Options) { o.Reference = besa.PathDense }),
		with("no sigmoid before the softmax", 0, func(o *besa.Options) { o.Plain = true }),
		with("AdamW", 0, func(o *besa.Options) { o.Optimizer = besa.OptimizerAdamW }),
		with("counts as learned", 0, func(o *besa.Options) { o.Expected = true }),
	}
}

// refineTrials has what can be done for the survivors, without and with a grid.
func refineTrials(with variant) []trial {
	var trials []trial
	for _, grid := range []besa.Grid{besa.GridNone, besa.GridSymmetric} {
		add := func(label string, change func(*besa.Options)) {
			if grid != besa.GridNone {
				label += ", 4-bit"
			}
			trials = append(trials, with(label, 0, func(o *besa.Options) {
				o.Grid = grid
				change(o)
			}))
		}
		add("off", func(*besa.Options) {})
		add("along and tune (default)", func(o *besa.Options) { *o = o.Refined() })
		add("along and tune, norms too", func(o *besa.Options) { *o = o.Refined(); o.Refine.Norms = true })
		add("along and tune, masks chosen again", func(o *besa.Options) { *o = o.Refined(); o.Refine.Remask = true })
		tune := func(o *besa.Options) { o.Refine.Passes = besa.RefinePasses }
		add("tune", tune)
		for _, solver := range besa.Solvers {
			add(string(solver), func(o *besa.Options) { o.Refine.Solve = solver })
			add(string(solver)+" and tune", func(o *besa.Options) { tune(o); o.Refine.Solve = solver })
		}
	}
	return trials
}

func patternTrials(with variant) []trial {
	var trials []trial
	for _, p := range []besa.Pattern{{N: 2, M: 4}, {N: 4, M: 8}} {
		for _, m := range methods[:3] {
			trials = append(trials, with(fmt.Sprintf("%s %s", methodNames[m], p), 0, func(o *besa.Options) {
				o.Method, o.Pattern, o.Sparsity = m, p, p.Sparsity()
			}))
		}
	}
	return trials
}

func calibrationTrials(base trial) []trial {
	var trials []trial
	var before int
	for _, f := range []float64{0.25, 0.5, 1, 2, 4} {
		t := base
		t.samples = max(int(f*float64(base.samples)), minSamples)
		t.label, t.x, t.series = fmt.Sprint(t.samples), float64(t.samples), "BESA"
		if t.samples != before {
			trials = append(trials, t)
		}
		before = t.samples
	}
	return trials
}

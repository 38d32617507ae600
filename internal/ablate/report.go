package ablate

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"besa/internal/decoder"
)

const (
	reportName  = "ablations.md"
	imageFolder = "img"
)

// report writes Markdown and plots from the cells that are finished.
type report struct {
	*runner
	text   strings.Builder
	images map[string][]byte // SVG by file name
	err    error             // the first
}

// write makes the report of what is finished so far.
func (r *runner) write() error {
	rep := &report{runner: r, images: map[string][]byte{}}
	rep.head()
	for _, t := range r.wanted {
		rep.printf("\n### %s\n\n", t.title)
		t.render(rep, t)
	}
	if rep.err != nil {
		return rep.err
	}
	r.result.Report = filepath.Join(r.Out, reportName)
	r.result.Cells = r.result.Cells[:0]
	for _, t := range r.wanted {
		for _, trial := range t.trials {
			if c := r.cell(trial); c != nil && !slices.ContainsFunc(r.result.Cells, func(o Cell) bool { return o.Conditions.same(c.Conditions) }) {
				r.result.Cells = append(r.result.Cells, *c)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(r.Out, imageFolder), 0o755); err != nil {
		return err
	}
	for name, svg := range rep.images {
		if err := replace(filepath.Join(r.Out, imageFolder, name), svg); err != nil {
			return err
		}
	}
	return replace(r.result.Report, []byte(rep.text.String()))
}

// same compares conditions by their names.
func (c Conditions) same(o Conditions) bool {
	a, errA := c.key()
	b, errB := o.key()
	return errA == nil && errB == nil && a == b
}

// cell is a trial's finished cell, or nil.
func (r *runner) cell(t trial) *Cell {
	key, err := r.conditions(t).key()
	if err != nil {
		return nil
	}
	return r.cells[key]
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(&r.text, format, args...) }

func (r *report) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// head says what was measured and how.
func (r *report) head() {
	r.printf("## The paper's ablations on %s\n\n", filepath.Base(r.Model))
	if r.Command != "" {
		r.printf("    %s\n\n", r.Command)
	}
	length := "tokens as the model's context allows"
	if r.Calibration.Len > 0 {
		length = fmt.Sprintf("%d tokens", r.Calibration.Len)
	}
	ctx := r.Perplexity.Ctx
	if ctx == 0 {
		ctx = r.Perplexity.Protocol.DefaultCtx()
	}
	windows := "all windows"
	if r.Perplexity.Limit > 0 {
		windows = fmt.Sprintf("the first %d windows", r.Perplexity.Limit)
	}
	r.printf("Calibration: %d windows of %s from %s, seed %d, unless a table says otherwise. Perplexity (protocol `%s`, engine `%s`): %s of %d tokens of each text. "+
		"Sparsity %g %% where nothing else is said. One run a cell: differences of a few percent mean nothing.\n",
		r.Calibration.Samples, length, filepath.Base(r.Calibration.Path), r.Calibration.Seed, r.Perplexity.Protocol, r.Open.Engine, windows, ctx, 100*r.Method.Sparsity)
}

// number writes a perplexity with four digits, or a dash.
func number(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v >= 1e4:
		return fmt.Sprintf("%.1e", v)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// perplexityOn is a trial's perplexity on text i; 0: not measured yet.
func (r *report) perplexityOn(t trial, i int) float64 {
	if c := r.cell(t); c != nil {
		return c.Perplexity[i].Perplexity
	}
	return 0
}

// row begins a line of a table; a nil slice gives the rule below the header.
func (r *report) row(cells ...string) { r.printf("| %s |\n", strings.Join(cells, " | ")) }

func (r *report) header(cells ...string) {
	r.row(cells...)
	rule := slices.Repeat([]string{"---:"}, len(cells))
	rule[0] = "---"
	r.row(rule...)
}

// trialsTable has one line a trial; extra adds columns before the perplexities.
func (r *report) trialsTable(t table, extra []string, value func(c *Cell) []string) {
	head := append([]string{t.about}, extra...)
	for _, d := range r.texts {
		head = append(head, d.name)
	}
	r.header(append(head, "convert, s")...)
	for _, trial := range t.trials {
		c := r.cell(trial)
		line := []string{trial.label}
		seconds := "–"
		if c != nil {
			line = append(line, value(c)...)
			seconds = fmt.Sprintf("%.0f", c.Seconds)
		} else {
			line = append(line, slices.Repeat([]string{"–"}, len(extra))...)
		}
		for i := range r.texts {
			line = append(line, number(r.perplexityOn(trial, i)))
		}
		r.row(append(line, seconds)...)
	}
}

func pruned(c *Cell) string { return fmt.Sprintf("%.2f %%", 100*c.Sparsity) }

// simple is one line a trial.
func (r *report) simple(t table) {
	r.trialsTable(t, []string{"pruned"}, func(c *Cell) []string { return []string{pruned(c)} })
}

// joint adds what a weight takes.
func (r *report) joint(t table) {
	r.trialsTable(t, []string{"pruned", "bits per block weight"}, func(c *Cell) []string {
		return []string{pruned(c), fmt.Sprintf("%.3f", c.BitsPerWeight)}
	})
}

// sparsity has methods down and sparsities across, for every text.
func (r *report) sparsity(t table) {
	var xs []float64
	for _, trial := range t.trials {
		if !trial.dense && !slices.Contains(xs, trial.x) {
			xs = append(xs, trial.x)
		}
	}
	slices.Sort(xs)
	for i, d := range r.texts {
		head := []string{"perplexity on " + d.name}
		for _, x := range xs {
			head = append(head, fmt.Sprintf("%g %%", 100*x))
		}
		r.header(head...)
		for _, m := range methods {
			line := []string{methodNames[m]}
			for _, x := range xs {
				line = append(line, number(r.seriesAt(t, methodNames[m], x, i)))
			}
			r.row(line...)
		}
		r.printf("\nDense: %s.\n\n", number(r.perplexityOn(t.trials[0], i)))
	}
	r.printf("![Perplexity by method and sparsity](%s)\n", r.image("sparsity", chart{
		title: "Perplexity on " + r.texts[0].name + " (paper: Figure 3)", x: "pruned, %", y: "perplexity", log: true,
		series: r.series(t, func(x float64) float64 { return 100 * x }),
	}))
}

// seriesAt is the perplexity of a series at x, on text i.
func (r *report) seriesAt(t table, series string, x float64, i int) float64 {
	for _, trial := range t.trials {
		if trial.series == series && trial.x == x {
			return r.perplexityOn(trial, i)
		}
	}
	return 0
}

// series gathers a table's trials by series, in the order of x, on the first text.
func (r *report) series(t table, scale func(float64) float64) []line {
	var all []line
	for _, trial := range t.trials {
		y := r.perplexityOn(trial, 0)
		if trial.series == "" || y == 0 {
			continue
		}
		k := slices.IndexFunc(all, func(l line) bool { return l.name == trial.series })
		if k < 0 {
			k, all = len(all), append(all, line{name: trial.series})
		}
		all[k].points = append(all[k].points, point{scale(trial.x), y})
	}
	for _, l := range all {
		slices.SortFunc(l.points, func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
	}
	return all
}

func (r *report) calibration(t table) {
	r.simple(t)
	r.printf("\n![Perplexity by calibration size](%s)\n", r.image("calibration", chart{
		title: "Perplexity on " + r.texts[0].name + " (paper: Figure 4)", x: "calibration windows", y: "perplexity",
		series: r.series(t, func(x float64) float64 { return x }),
	}))
}

// lossGranularity adds every block's reconstruction error.
func (r *report) lossGranularity(t table) {
	r.trialsTable(t, []string{"pruned", "mean reconstruction error"}, func(c *Cell) []string {
		var sum float64
		for _, e := range c.Error {
			sum += e
		}
		return []string{pruned(c), fmt.Sprintf("%.4f", sum/float64(len(c.Error)))}
	})
	var lines []line
	for _, trial := range t.trials {
		if c := r.cell(trial); c != nil {
			lines = append(lines, lineOf(trial.label, c.Error))
		}
	}
	r.printf("\n![Reconstruction error by block](%s)\n", r.image("error", chart{
		title: "Reconstruction error ‖pruned − dense‖ / ‖dense‖ (paper: Figure 5)", x: "block", y: "relative error", series: lines,
	}))
}

// layers shows what was learned, by type of layer and by block.
func (r *report) layers(t table) {
	c := r.cell(t.trials[0])
	if c == nil || len(c.Layers) == 0 {
		r.printf("Not measured yet.\n")
		return
	}
	r.header("layer", "least", "mean", "most")
	var lines []line
	for l := range decoder.NumLinears {
		var values []float64
		var sum float64
		for _, b := range c.Layers {
			values = append(values, b[l.String()])
			sum += b[l.String()]
		}
		r.row(l.String(), fmt.Sprintf("%.3f", slices.Min(values)), fmt.Sprintf("%.3f", sum/float64(len(values))), fmt.Sprintf("%.3f", slices.Max(values)))
		lines = append(lines, lineOf(l.String(), values))
	}
	r.printf("\n![Learned sparsity by block](%s)\n", r.image("layers", chart{
		title: fmt.Sprintf("Sparsity learned at %g %%", 100*t.trials[0].method.Sparsity), x: "block", y: "pruned", series: lines,
	}))
}

// image draws a chart and returns its name in the report.
func (r *report) image(name string, c chart) string {
	file := "ablate-" + name + ".svg"
	svg, err := c.svg()
	if err != nil {
		r.fail(fmt.Errorf("plot %s: %w", file, err))
		return file
	}
	r.images[file] = svg
	return imageFolder + "/" + file
}

// Package ablate repeats the paper's experiments on one model.
//
// In: a model, calibration text, texts to measure perplexity on, and which of
// the tables are wanted. Out: for every conversion that the tables need one
// cell, a JSON file with its options and figures; and from the finished cells a
// report in Markdown with plots in SVG. A cell is named after everything that
// its figures depend on, so a table that shares a cell with another has it for
// nothing, and a run that was interrupted skips what is finished; the
// conversion that was cut off continues behind its last block.
package ablate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"besa/besa"
	"besa/convert"
	"besa/eval"
	"besa/internal/corpus"
)

// ErrOptions marks options that cannot be followed.
var ErrOptions = errors.New("invalid options")

// Options says what to measure and how.
type Options struct {
	Model  string
	Out    string   // folder for cells, report and plots; made where it is missing
	Tables []string // names of tables; empty: all
	Data   []string // texts to measure perplexity on, the first one plotted

	Method      besa.Options // what the tables vary
	Calibration convert.Calibration
	Precision   convert.Precision
	Perplexity  eval.PerplexityOptions
	Open        eval.OpenOptions
	Threads     int
	Memory      int64
	Version     string // of the tool
	Command     string // what the report says it was made with

	OnEvent func(Event) // progress; called from one goroutine
}

// Event is one piece of progress.
type Event struct {
	Done   float64 // finished fraction of the work that was not finished before
	Detail string
}

// Result is what a run did.
type Result struct {
	Report  string  `json:"report"` // the Markdown file
	Cells   []Cell  `json:"cells"`
	Skipped int     `json:"cells_finished_before"`
	Seconds float64 `json:"seconds"`
}

// text is a text to measure on.
type text struct {
	name string
	corpus.Text
}

// prepare checks the options and reads the texts.
func (o *Options) prepare() ([]table, []text, string, error) {
	fail := func(err error) ([]table, []text, string, error) { return nil, nil, "", err }
	if len(o.Data) == 0 || o.Calibration.Path == "" {
		return fail(fmt.Errorf("%w: give calibration text and at least one text to measure on (--calib, --data)", ErrOptions))
	}
	if o.Calibration.Samples == 0 {
		o.Calibration.Samples = defaultSamples
	}
	if o.Perplexity.Protocol == "" {
		o.Perplexity.Protocol = eval.Paper
	}
	if err := o.Method.Validate(); err != nil {
		return fail(err)
	}
	tables, err := o.tables()
	if err != nil {
		return fail(err)
	}
	var texts []text
	for _, path := range o.Data {
		t, err := corpus.Load(path)
		if err != nil {
			return fail(err)
		}
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		for _, earlier := range texts {
			if earlier.name == name {
				name = filepath.Base(path)
			}
		}
		texts = append(texts, text{name, t})
	}
	calib, err := corpus.Read(o.Calibration.Path, corpus.Options{Column: o.Calibration.Column}, func(string) error { return nil })
	if err != nil {
		return fail(err)
	}
	return tables, texts, calib.Hash, os.MkdirAll(filepath.Join(o.Out, cellFolder), 0o755)
}

// Run measures what is missing and writes the report after every cell.
func Run(ctx context.Context, o Options) (*Result, error) {
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

// tables are the wanted tables, in the order in which they are reported.
func (o *Options) tables() ([]table, error) {
	all := allTables(o.Method, o.Calibration.Samples)
	if len(o.Tables) == 0 {
		return all, nil
	}
	var wanted []table
	for _, t := range all {
		if slices.Contains(o.Tables, t.name) {
			wanted = append(wanted, t)
		}
	}
	for _, name := range o.Tables {
		if !slices.Contains(TableNames(), name) {
			return nil, fmt.Errorf("%w: table %q; have %s", ErrOptions, name, strings.Join(TableNames(), ", "))
		}
	}
	return wanted, nil
}

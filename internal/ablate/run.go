package ablate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"besa/besa"
	"besa/convert"
	"besa/eval"
)

// runner is the state of one run.
type runner struct {
	Options
	wanted    []table
	texts     []text
	calibHash string
	modelHash string
	cells     map[string]*Cell // finished, by key
	work      float64          // estimated, of what was not finished before
	done      float64
	result    Result
}

func newRunner(o Options) (*runner, error) {
	r := &runner{cells: map[string]*Cell{}}
	var err error
	if r.wanted, r.texts, r.calibHash, err = o.prepare(); err != nil {
		return nil, err
	}
	r.Options = o
	if r.modelHash, err = convert.ModelHash(o.Model); err != nil {
		return nil, err
	}
	return r, nil
}

// cost estimates a trial's work in passes over its windows: what matters is
// the ratio.
func (r *runner) cost(t trial) float64 {
	measure := 2 * float64(max(r.Perplexity.Limit, 1)*len(r.texts)) * 2
	if t.dense {
		return measure
	}
	passes := 4.0
	if t.method.Method == besa.MethodBESA {
		passes += 8 * float64(t.method.Epochs)
	}
	passes += 8 * float64(t.method.Refine.Passes)
	return measure + passes*float64(t.samples)
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	started := time.Now()
	type job struct {
		trial
		conditions Conditions
	}
	var missing []job
	planned := map[string]bool{}
	for _, t := range r.wanted {
		for _, trial := range t.trials {
			c := r.conditions(trial)
			key, err := c.key()
			if err != nil {
				return nil, err
			}
			if planned[key] {
				continue
			}
			planned[key] = true
			cell, err := r.load(c)
			if err != nil {
				return nil, err
			}
			if cell != nil {
				r.cells[key] = cell
				r.result.Skipped++
				continue
			}
			missing = append(missing, job{trial, c})
			r.work += r.cost(trial)
		}
	}
	if err := r.write(); err != nil {
		return nil, err
	}
	for i, j := range missing {
		what := fmt.Sprintf("%d of %d: %s", i+1, len(missing), j.label)
		cell, err := r.measure(ctx, j.trial, j.conditions, what)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", j.label, err)
		}
		if err := r.save(cell); err != nil {
			return nil, err
		}
		key, err := j.conditions.key()
		if err != nil {
			return nil, err
		}
		r.cells[key] = cell
		r.done += r.cost(j.trial)
		if err := r.write(); err != nil {
			return nil, err
		}
	}
	r.result.Seconds = time.Since(started).Seconds()
	return &r.result, nil
}

// at reports progress within a trial.
func (r *runner) at(t trial, part float64, detail string) {
	if r.OnEvent != nil {
		r.OnEvent(Event{Done: (r.done + part*r.cost(t)) / r.work, Detail: detail})
	}
}

// measure converts and evaluates.
func (r *runner) measure(ctx context.Context, t trial, c Conditions, what string) (*Cell, error) {
	cell := &Cell{Conditions: c}
	path := r.Model
	if !t.dense {
		key, err := c.key()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(r.Out, key+".sparse.gguf")
		if err := r.convert(ctx, t, path, cell, what); err != nil {
			return nil, err
		}
	}
	for i, d := range r.texts {
		r.at(t, 0.8+0.2*float64(i)/float64(len(r.texts)), what+", perplexity on "+d.name)
		p, err := r.perplexity(ctx, path, d)
		if err != nil {
			return nil, err
		}
		cell.Perplexity = append(cell.Perplexity, Perplexity{d.name, p.Perplexity, p.StdErr})
	}
	if !t.dense {
		return cell, os.Remove(path)
	}
	return cell, nil
}

// convert makes the sparse model of a trial; what an earlier run left of it is
// continued.
func (r *runner) convert(ctx context.Context, t trial, path string, cell *Cell, what string) error {
	calib := r.Calibration
	calib.Samples = t.samples
	report, err := convert.Run(ctx, convert.Options{
		Input: r.Model, Output: path, Force: true, Resume: true, Method: t.method, Calibration: calib,
		Precision: r.Precision, Threads: r.Threads, Memory: r.Memory, Version: r.Version,
		OnEvent: func(e convert.Event) {
			detail := string(e.Stage)
			if e.Stage == convert.StagePrune {
				detail = fmt.Sprintf("block %d of %d", min(e.Block+1, e.Blocks), e.Blocks)
			}
			if e.Message == "" {
				r.at(t, 0.8*e.Done, what+", "+detail)
			}
		},
	})
	if err != nil {
		return err
	}
	cell.Sparsity, cell.BitsPerWeight, cell.Seconds = report.Sparsity, report.BitsPerWeight, report.Seconds
	for _, b := range report.Blocks {
		cell.Error = append(cell.Error, b.Error)
		cell.Layers = append(cell.Layers, b.Layers)
	}
	return nil
}

func (r *runner) perplexity(ctx context.Context, path string, d text) (result eval.PerplexityResult, err error) {
	m, err := eval.Open(ctx, path, r.Open)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	result, err = eval.Perplexity(ctx, m, d.Text.Text, r.Perplexity)
	if err != nil {
		return result, fmt.Errorf("perplexity on %s: %w", d.name, err)
	}
	return result, nil
}

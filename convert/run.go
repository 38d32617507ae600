package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"besa/besa"
	"besa/gguf"
	"besa/internal/corpus"
	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/model"
	"besa/internal/tokenizer"
	"besa/sparsefmt"
)

// ErrOutput marks an output path that must not be written.
var ErrOutput = errors.New("output refused")

// Run converts a model and returns what was done. When it fails, or ctx is
// cancelled, nothing is left behind.
func Run(ctx context.Context, o Options) (*Report, error) {
	started := time.Now()
	if err := o.Method.Validate(); err != nil {
		return nil, err
	}
	if err := checkOutput(o); err != nil {
		return nil, err
	}
	m, err := model.Open(o.Input)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.Sparse() {
		return nil, fmt.Errorf("%s is a sparse GGUF already: convert the model that it was made from", o.Input)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	r := &runner{Options: o, model: m, pool: kernel.NewPool(o.Threads)}
	defer r.pool.Close()
	r.report = Report{
		Input: o.Input, Output: o.Output, Architecture: m.Arch, Method: string(o.Method.Method), Grid: string(o.Method.Grid),
		Target: o.Method.Sparsity, InputBytes: m.File().Size(), Seed: o.Calibration.Seed, Threads: o.Threads, Kernel: kernel.Implementation(),
	}
	r.work, err = os.MkdirTemp(filepath.Dir(o.Output), ".besa-work-*")
	if err != nil {
		return nil, fmt.Errorf("make a work folder beside the output: %w", err)
	}
	defer os.RemoveAll(r.work)
	if err := r.calibrate(ctx); err != nil {
		return nil, err
	}
	if err := r.prune(ctx); err != nil {
		return nil, err
	}
	if err := r.assemble(ctx); err != nil {
		return nil, err
	}
	r.report.Seconds = time.Since(started).Seconds()
	r.report.PeakRSS = peakRSS()
	return &r.report, nil
}

// checkOutput refuses outputs that would destroy something.
func checkOutput(o Options) error {
	if gguf.SameFile(o.Input, o.Output) {
		return fmt.Errorf("%w: %s is the input itself; choose another name with -o", ErrOutput, o.Output)
	}
	info, err := os.Stat(o.Output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%w: %s is a directory", ErrOutput, o.Output)
	case !o.Force:
		return fmt.Errorf("%w: %s exists; replace it with --force", ErrOutput, o.Output)
	}
	dir := filepath.Dir(o.Output)
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("output folder: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("%w: %s is no directory", ErrOutput, dir)
	}
	return nil
}

// runner is the state of one conversion.
type runner struct {
	Options
	model  *model.Model
	pool   *kernel.Pool
	work   string
	in     *windows // what enters the next block
	blobs  map[string]sparsefmt.Blob
	report Report
	hash   string // of the calibration text
}

func (r *runner) event(e Event) {
	if r.OnEvent != nil {
		e.Blocks = r.model.Layers
		r.OnEvent(e)
	}
}

// calibrate tokenises the calibration text and embeds its windows.
func (r *runner) calibrate(ctx context.Context) error {
	r.event(Event{Stage: StageTokenize})
	text, err := corpus.Load(r.Calibration.Path)
	if err != nil {
		return err
	}
	tok, err := tokenizer.New(r.model.File())
	if err != nil {
		return err
	}
	ids, err := tok.Encode(text.Text)
	if err != nil {
		return fmt.Errorf("tokenise %s: %w", r.Calibration.Path, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	asked := r.Calibration.Samples
	if r.Calibration, err = r.Calibration.plan(len(ids), r.model.Context); err != nil {
		return fmt.Errorf("%s: %w", r.Calibration.Path, err)
	}
	c := r.Calibration
	if asked == 0 && c.Samples < defaultSamples {
		r.event(Event{Message: fmt.Sprintf("calibration text holds %d tokens: %d windows of %d (%d are usual)", len(ids), c.Samples, c.Len, defaultSamples)})
	}
	r.hash = text.Hash
	r.report.Samples, r.report.Tokens, r.report.CalibTokens = c.Samples, c.Len, len(ids)

	embedding, err := r.model.Embedding()
	if err != nil {
		return err
	}
	r.in = newWindows(c.Samples, c.Len, r.model.Hidden)
	for i, start := range c.starts(len(ids)) {
		if err := model.Embed(r.in.window(i), embedding, ids[start:start+c.Len]); err != nil {
			return fmt.Errorf("tokenizer and embedding disagree: %w", err)
		}
	}
	return nil
}

// prune runs the method over all blocks.
func (r *runner) prune(ctx context.Context) error {
	eng, err := decoder.NewEngine[float32](r.model.Config, r.Calibration.Len, r.pool)
	if err != nil {
		return err
	}
	r.blobs = map[string]sparsefmt.Blob{}
	ref := newWindows(r.Calibration.Samples, r.Calibration.Len, r.model.Hidden)
	started := time.Now()
	for b := range r.model.Layers {
		if err := r.block(ctx, eng, ref, b); err != nil {
			return fmt.Errorf("block %d: %w", b, err)
		}
	}
	r.report.PruneSeconds = time.Since(started).Seconds()
	tokens := float64(r.Calibration.Samples) * float64(r.Calibration.Len)
	r.report.GFLOPS = r.flopsPerWeight() * float64(r.model.Parameters()) * float64(r.model.Layers) * tokens / r.report.PruneSeconds / 1e9
	return nil
}

// flopsPerWeight counts floating-point operations per weight and token: the
// dense and the pruned pass 2 each, a learning step 6 (forward 2, backward 4).
func (r *runner) flopsPerWeight() float64 {
	if r.Method.Method != besa.MethodBESA {
		return 4
	}
	return 4 + 6*float64(r.Method.Epochs)
}

// block prunes block b and stores its parts in the work folder.
func (r *runner) block(ctx context.Context, eng *decoder.Engine[float32], ref *windows, b int) error {
	started := time.Now()
	block, err := r.model.Block(b)
	if err != nil {
		return err
	}
	if err := block.Check(r.model.Config); err != nil {
		return err
	}
	blocks := float64(r.model.Layers)
	r.event(Event{Stage: StagePrune, Block: b, Done: float64(b) / blocks})
	res, err := besa.PruneBlock(ctx, besa.Job{
		Engine: eng, Block: block, In: r.in, Ref: ref,
		Stored: func(l decoder.Linear, weights kernel.Mat[float32]) error {
			return r.round(b, l, weights)
		},
		Step: func(done, total int) {
			r.event(Event{Stage: StagePrune, Block: b, Done: (float64(b) + float64(done)/float64(total+1)) / blocks})
		},
	}, r.Method)
	if err != nil {
		return err
	}
	rep := BlockReport{Block: b, Error: res.Error, Sparsity: res.Sparsity(), Layers: map[string]float64{}}
	rep.FirstLoss, rep.LastLoss = quarters(res.Steps)
	var stored, weights uint64
	for l := range decoder.NumLinears {
		blob, err := r.store(b, l, &res.Layers[l])
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		rep.Layers[l.String()] = res.Layers[l].Sparsity()
		stored += blob.Info.BlobBytes
		weights += blob.Info.Elements()
	}
	rep.BitsPerWeight = 8 * float64(stored) / float64(weights)
	rep.Seconds = time.Since(started).Seconds()
	r.report.Blocks = append(r.report.Blocks, rep)
	r.event(Event{Stage: StagePrune, Block: b + 1, Done: float64(b+1) / blocks})
	return nil
}

// quarters returns the mean reconstruction loss of the first and the last
// quarter of the steps.
func quarters(steps []besa.StepLoss) (first, last float64) {
	n := (len(steps) + 3) / 4
	if n == 0 {
		return 0, 0
	}
	mean := func(s []besa.StepLoss) float64 {
		var sum float64
		for _, l := range s {
			sum += l.Reconstruction
		}
		return sum / float64(len(s))
	}
	return mean(steps[:n]), mean(steps[len(steps)-n:])
}

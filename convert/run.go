package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"besa/besa"
	"besa/gguf"
	"besa/internal/disk"
	"besa/internal/kernel"
	"besa/internal/model"
	"besa/sparsefmt"
)

// ErrOutput marks an output path that must not be written.
var ErrOutput = gguf.ErrOutput

// KeptError is an error after which the journal stays: the same conversion,
// started again, continues.
type KeptError struct {
	Err          error
	Done, Blocks int    // blocks in the journal, blocks of the model
	Journal      string // its folder
}

// Error adds what is kept to what went wrong.
func (e *KeptError) Error() string { return fmt.Sprintf("%v; %s", e.Err, e.Kept()) }

// Unwrap returns what went wrong.
func (e *KeptError) Unwrap() error { return e.Err }

// Kept says what is kept.
func (e *KeptError) Kept() string {
	if e.Done == 0 {
		return fmt.Sprintf("the calibration text that the model has written so far is kept in %s, and the same command continues it", e.Journal)
	}
	return fmt.Sprintf("%d of %d blocks are kept in %s, and the same command continues with the next", e.Done, e.Blocks, e.Journal)
}

// Run converts a model and returns what was done. An error that might pass
// (an interruption, a full disk) is a KeptError once a block is finished, or a
// part of the calibration text that the model writes;
// otherwise nothing is left behind.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	started := time.Now()
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	defer limitHeap(r.Memory)()
	if r.Precision == PrecisionBF16 && !kernel.NativeBF16() {
		r.event(Event{Message: "bf16 products are slow here, without instructions for them: --precision=fp32 is faster"})
	}
	meter := startUsageMeter()
	defer meter.close()
	defer func() { err = r.close(err) }()
	if r.journal, err = lockJournal(r.Output); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{r.checkWeights, r.calibrate, r.resume, r.checkRoom, r.prune, r.assemble} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	r.speed()
	r.report.Seconds = time.Since(started).Seconds()
	r.report.PeakRSS, r.report.PeakAnonymous = meter.peaks()
	return &r.report, nil
}

// checkWeights finds a damaged model before the work, not in its middle.
func (r *runner) checkWeights(ctx context.Context) error { return r.model.CheckFinite(ctx, r.pool) }

// runner is the state of one conversion.
type runner struct {
	Options
	model   *model.Model
	pool    *kernel.Pool
	journal *journal
	windows [][]int32             // the calibration windows' tokens
	in      besa.Windows          // what enters the next block
	ref     besa.Windows          // scratch of the same size
	dense   besa.Windows          // what enters it in the dense model; nil unless the method asks for it
	spill   *disk.Scratch         // where they lie, if not in memory
	learned map[int]*besa.Learned // by block: what pairs of blocks learned together
	outputs []string              // the files that were written
	dry     bool                  // nothing is written, not even a calibration text

	imatrix *imatrix // nil: none

	sampling              Sampling // how the windows were taken
	textHash, windowsHash string   // of the text, where there is one, and of the windows
	ownKey                string   // all that a text depends on which the model writes

	work   work
	report Report
}

// newRunner checks the options and opens the model.
func newRunner(o Options) (*runner, error) {
	o.Layout = max(o.Layout, sparsefmt.LayoutPlain)
	if o.Activations == "" {
		o.Activations = ActivationsFP32
	}
	if err := errors.Join(o.Method.Validate(), o.Activations.validate()); err != nil {
		return nil, err
	}
	var err error
	if o.Precision, err = o.Precision.resolve(); err != nil {
		return nil, err
	}
	named := o.Output
	if o.Output, err = checkOutput(o); err != nil {
		return nil, err
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory()
	}
	if o.SpillDir == "" {
		o.SpillDir = filepath.Dir(o.Output)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	m, err := model.Open(o.Input)
	if err != nil {
		return nil, err
	}
	if m.Sparse() {
		m.Close()
		return nil, fmt.Errorf("%s is a sparse GGUF already: convert the model that it was made from", o.Input)
	}
	if err := o.checkTargets(m.Config, m.Layers); err != nil {
		m.Close()
		return nil, err
	}
	if _, err := o.recode(m.File()); err != nil {
		m.Close()
		return nil, err
	}
	sums, err := readImatrix(o, m)
	if err != nil {
		m.Close()
		return nil, err
	}
	r := &runner{Options: o, model: m, imatrix: sums, pool: kernel.NewPool(o.Threads)}
	r.report = Report{
		Input: o.Input, Output: named, Architecture: m.Arch, Method: string(o.Method.Method), Grid: string(o.Method.Grid), Layout: o.Layout.String(),
		Target: o.Method.Sparsity, InputBytes: m.File().Size(), Seed: o.Calibration.Seed, Threads: o.Threads, Kernel: kernel.Implementation(),
		Precision: o.Precision, Imatrix: o.Imatrix,
	}
	return r, nil
}

// checkOutput refuses outputs that would destroy something, and follows links:
// it is the file that a link leads to which is replaced.
func checkOutput(o Options) (path string, err error) {
	split := o.SplitMaxSize != 0
	if err := gguf.CheckOutput(o.Output, split, o.Force || !split, o.Input); err != nil {
		return "", err
	}
	if _, err := os.Stat(o.Output); errors.Is(err, fs.ErrNotExist) {
		return o.Output, nil
	}
	if path, err = filepath.EvalSymlinks(o.Output); err != nil || o.Force || o.Resume && outputIsDone(path) {
		return path, err
	}
	tidyJournal(path)
	return "", existing(o.Output)
}

func existing(output string) error {
	return fmt.Errorf("%w: %s exists; replace it with --force", ErrOutput, output)
}

// resume opens the journal and says what is in it.
func (r *runner) resume(context.Context) error {
	fp, err := r.fingerprint()
	if err != nil {
		return err
	}
	if err := r.journal.open(fp, r.Resume, r.check); err != nil {
		return err
	}
	if _, err := os.Stat(r.Output); err == nil && !r.Force && !r.journal.named {
		return existing(r.Output)
	}
	if r.report.Resumed = len(r.journal.blocks); r.report.Resumed > 0 {
		r.event(Event{Message: fmt.Sprintf("continuing: %d of %d blocks are finished (--resume=false starts afresh)", r.report.Resumed, r.model.Layers)})
	}
	return nil
}

// checkRoom warns early of a disk that will be full. It does not refuse: the
// sizes are estimates, and there may be more room by the time that it is needed.
func (r *runner) checkRoom(context.Context) error {
	_, room, err := r.estimateSizes(len(r.journal.blocks))
	if err != nil {
		return err
	}
	dir := filepath.Dir(r.Output)
	if free, known := disk.Free(dir); known && free < room {
		r.event(Event{Message: fmt.Sprintf("%s are free in %s, about %s will be needed: if the disk gets full, finished blocks are kept",
			sizeText(free), dir, sizeText(room))})
	}
	return nil
}

// close lets go of what the conversion held, and of the journal where it is of
// no more use.
func (r *runner) close(err error) error {
	r.pool.Close()
	if r.spill != nil {
		err = errors.Join(err, r.spill.Close())
	}
	if r.journal != nil {
		done, dir := len(r.journal.blocks), r.journal.dir
		keep := err != nil && mayPass(err) && (done > 0 || r.journal.own)
		err = errors.Join(err, r.journal.close(keep))
		if keep {
			err = &KeptError{err, done, r.model.Layers, dir}
		}
	}
	return errors.Join(err, r.model.Close())
}

// mayPass tells errors of the moment and of the machine from those that the
// same conversion would run into again.
func mayPass(err error) bool {
	var system syscall.Errno
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrMemory) || errors.As(err, &system)
}

func (r *runner) event(e Event) {
	if r.OnEvent != nil {
		e.Blocks = r.model.Layers
		r.OnEvent(e)
	}
}

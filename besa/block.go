package besa

import (
	"context"
	"fmt"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// Windows are calibration windows of hidden states, tokens × hidden each. They
// may lie in memory or in a file, so reading and writing them can fail.
type Windows interface {
	Len() int
	// Load returns window i. It must not be written to, and is valid until the
	// next Load or Store of these windows.
	Load(i int) (kernel.Mat[float32], error)
	// Store replaces window i by a copy of m.
	Store(i int, m kernel.Mat[float32]) error
}

// Sums are, for every linear layer of a block, one sum of squares per input channel.
type Sums [decoder.NumLinears][]float64

// Job is one block to prune.
type Job struct {
	Engine *decoder.Engine[float32]
	Block  *decoder.Block[float32] // its weights are overwritten where the method updates them
	In     Windows                 // what enters the block; overwritten with what leaves the pruned block. Nil where the method needs none
	Ref    Windows                 // scratch of the same shape: the dense block's output on In
	// Dense is what enters the block in the dense model; overwritten with what
	// leaves it there. Nil unless Options.NeedsDensePath.
	Dense Windows
	Step  func(done, total int)
	// Learned is what LearnPair learned for this block; nil: it is learned here.
	Learned *Learned

	// Sums are Σ_t x² of every channel that enters a layer, measured elsewhere;
	// they take the place of In's. Nil: In's are used.
	Sums *Sums

	// Stored rounds the weights of layer l, in place, to what the file will
	// hold; it is called where there is no grid, which rounds on its own. What
	// leaves the block is then the output of the weights as stored, and can be
	// computed again from them. Nil: weights are stored as they are.
	Stored func(l decoder.Linear, weights kernel.Mat[float32]) error
}

// Layer is one pruned linear layer.
type Layer struct {
	Weights kernel.Mat[float32] // rows × columns: survivors as stored, zero where pruned
	Mask    []uint64            // rows × ⌈columns/64⌉ words; bit i of word w: column 64w+i is kept
	Pruned  int                 // weights whose mask bit is 0

	// With a grid: codes rows × columns, steps (fp16 bits) and zero codes rows × groups.
	Group int
	Codes []uint8
	Steps []uint16
	Zeros []uint8 // asymmetric grid only
}

// Sparsity is the fraction of pruned weights.
func (l *Layer) Sparsity() float64 {
	return float64(l.Pruned) / float64(l.Weights.Rows*l.Weights.Cols)
}

// StepLoss is the loss of one optimisation step.
type StepLoss struct {
	Loss           float64 // all terms
	Reconstruction float64
	Sparsity       float64 // expected sparsity of the block, before exact counts
}

// Result is a pruned block.
type Result struct {
	Layers [decoder.NumLinears]Layer
	Steps  []StepLoss
	Refine *RefineResult // nil without refinement
	Norms  *Norms        // nil where they are the dense block's
	Error  float64       // ‖pruned(x) − dense(x)‖ / ‖dense(x)‖ over all windows
}

// Norms are the gains of a block's two norms (hidden values each), tuned.
type Norms struct{ Attn, FFN []float32 }

// Sparsity is the fraction of the block's weights that are pruned.
func (r *Result) Sparsity() float64 {
	pruned, total := 0, 0
	for i := range r.Layers {
		pruned += r.Layers[i].Pruned
		total += r.Layers[i].Weights.Rows * r.Layers[i].Weights.Cols
	}
	return float64(pruned) / float64(total)
}

// PruneBlock prunes (and quantises) one block by opts. On return job.In holds
// the pruned block's output, the next block's input.
func PruneBlock(ctx context.Context, job Job, opts Options) (*Result, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.NeedsDensePath() && job.Dense == nil {
		return nil, fmt.Errorf("%w: the dense path's hidden states are missing", ErrOptions)
	}
	if job.In == nil && opts.NeedsWindows(job.Sums != nil) {
		return nil, fmt.Errorf("%w: method %s without calibration windows", ErrOptions, opts.Method)
	}
	s := newSession(job, opts)
	if err := s.collect(ctx); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	switch {
	case opts.Method != MethodBESA:
	case job.Learned != nil:
		s.adopt(job.Learned)
	default:
		if err := s.learn(ctx); err != nil {
			return nil, err
		}
	}
	refined, err := s.refine(ctx)
	if err != nil {
		return nil, err
	}
	res, err := s.finish()
	if err != nil {
		return nil, err
	}
	res.Refine = refined
	if err := s.handOver(ctx, res); err != nil {
		return nil, err
	}
	return res, nil
}

// session is the state of one block's pruning.
type session struct {
	Job
	opts   Options
	pool   *kernel.Pool
	acts   *decoder.Activations[float32]
	masked decoder.Block[float32] // the block with masked (and quantised) weights

	norms   [decoder.NumLinears]InputNorms
	hess    [decoder.NumLinears]*Hessian // only where the method needs them
	factor  [decoder.NumLinears]*factor
	rank    [decoder.NumLinears]*Ranking
	prune   [decoder.NumLinears][]int
	alloc   []*Allocation // by layer; only when it is learned: not with masks of a fixed shape
	clip    [decoder.NumLinears]*clipping
	goals   []goal
	grads   *decoder.Gradients[float32] // only while the allocation is learned
	learned int                         // steps of learning the allocation
	steps   []StepLoss
}

func newSession(job Job, opts Options) *session {
	s := &session{Job: job, opts: opts, pool: job.Engine.Pool(), acts: job.Engine.NewActivations(), masked: *job.Block}
	for l := range decoder.NumLinears {
		w := job.Block.W[l]
		s.masked.W[l] = kernel.NewMat[float32](w.Rows, w.Cols)
		if opts.NeedsHessians() && decoder.SameInput[l] == l {
			s.hess[l] = new(Hessian)
		}
	}
	if opts.Method == MethodBESA && job.Learned == nil {
		s.learned = opts.Epochs * job.In.Len()
		if opts.LossGranularity == LossPerHalf {
			s.learned *= 2 // one half after the other
		}
	}
	return s
}

// collect runs the dense block: reference outputs, input norms, Hessians.
func (s *session) collect(ctx context.Context) error {
	for i := range length(s.In) {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := s.In.Load(i)
		if err != nil {
			return err
		}
		if err := s.Engine.Forward(s.Block, x, s.acts); err != nil {
			return err
		}
		if err := checkStates(x, s.acts.Out); err != nil {
			return fmt.Errorf("calibration window %d: %w", i, err)
		}
		for l, first := range decoder.SameInput {
			if decoder.Linear(l) != first {
				continue
			}
			s.norms[l].Add(s.pool, s.acts.Input(first))
			if s.hess[l] != nil {
				s.hess[l].Add(s.pool, s.acts.Input(first))
			}
		}
		if err := s.Ref.Store(i, s.acts.Out); err != nil {
			return err
		}
		if err := s.followDense(i); err != nil {
			return err
		}
	}
	for l, first := range decoder.SameInput {
		s.norms[l], s.hess[l] = s.norms[first], s.hess[first]
		if s.Sums != nil {
			s.norms[l].Sum = s.Sums[l]
		}
	}
	return nil
}

// length is the number of windows; there may be none at all.
func length(w Windows) int {
	if w == nil {
		return 0
	}
	return w.Len()
}

// followDense advances window i of the dense model.
func (s *session) followDense(i int) error {
	if s.Dense == nil {
		return nil
	}
	x, err := s.Dense.Load(i)
	if err != nil {
		return err
	}
	if err := s.Engine.Forward(s.Block, x, s.acts); err != nil {
		return err
	}
	return s.Dense.Store(i, s.acts.Out)
}

// target is what the pruned block's output on window i is to reproduce.
func (s *session) target(path Path, i int) (kernel.Mat[float32], error) {
	if path == PathDense {
		return s.Dense.Load(i)
	}
	return s.Ref.Load(i)
}

// prepare ranks the weights and sets up uniform counts, grids and allocations.
func (s *session) prepare() error {
	cand := NewCandidates(s.opts.Step, s.opts.Rule)
	sparsity, err := s.split()
	if err != nil {
		return err
	}
	if err := s.factorize(); err != nil {
		return err
	}
	for l := range decoder.NumLinears {
		w := s.Block.W[l]
		norms := s.norms[l].Norms() // nil: nothing is known of the inputs
		if err := s.choose(l, norms, sparsity[l]); err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		if s.opts.Grid != GridNone {
			s.clip[l] = newClipping(s.opts.Grid, w.Rows, w.Cols, s.opts.Group)
			s.clip[l].frozen = !s.learnsClipping()
			s.fitGrid(l)
		}
		if s.opts.learnsAllocation() && s.Learned == nil {
			a := NewAllocation(w.Rows, w.Cols, cand, tiltFor(cand, sparsity[l]), s.opts.Granularity)
			a.Plain = s.opts.Plain
			s.alloc = append(s.alloc, a)
		}
	}
	return nil
}

// fitGrid sets the steps of layer l's grid for its weights as they are.
func (s *session) fitGrid(l decoder.Linear) {
	if s.opts.Grid == GridSymmetric {
		s.clip[l].searchSteps(s.pool, s.Block.W[l], s.norms[l].Norms(), s.rank[l], s.prune[l])
		return
	}
	s.clip[l].fitRange(s.pool, s.Block.W[l], s.opts.Method == MethodBESA)
}

// split fixes the goals and returns the sparsity that each layer starts from.
func (s *session) split() (sparsity [decoder.NumLinears]float64, err error) {
	var params [decoder.NumLinears]int
	for l, w := range s.Block.W {
		params[l] = w.Rows * w.Cols
	}
	s.goals, err = s.opts.goals(params)
	for _, g := range s.goals {
		for _, l := range g.layers {
			sparsity[l] = g.sparsity
		}
	}
	return sparsity, err
}

package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/disk"
	"besa/sparsefmt"
)

// Plan is what a conversion would do, and what it would take. Sizes are bytes.
type Plan struct {
	Input        string    `json:"input"`
	Output       string    `json:"output"`
	Architecture string    `json:"architecture"`
	Method       string    `json:"method"`
	Grid         string    `json:"grid,omitempty"`
	Target       float64   `json:"sparsity_target"`
	Threads      int       `json:"threads"`
	Kernel       string    `json:"kernel"`
	Precision    Precision `json:"precision"`
	Blocks       int       `json:"blocks"`
	Resumed      int       `json:"blocks_resumed,omitempty"` // finished by earlier runs
	Weights      int64     `json:"block_weights"`            // in the linear layers of all blocks
	Samples      int       `json:"calibration_windows"`
	Tokens       int       `json:"calibration_window_tokens"`
	CalibTokens  int       `json:"calibration_text_tokens"`
	Sampling     Sampling  `json:"calibration_sampling"`
	FLOPs        float64   `json:"flops"`  // of all matrix products in blocks that are not finished: attention's, correlations' and refinement's included
	GFLOPS       float64   `json:"gflops"` // at which they are done, by a measurement of two seconds
	Seconds      float64   `json:"estimated_seconds"`
	Memory       Budget    `json:"memory"`
	InputBytes   int64     `json:"input_bytes"`
	FileBytes    int64     `json:"estimated_file_bytes"`
	DiskBytes    int64     `json:"disk_bytes"`      // room needed beside the output: journal and output, and the spill file if it is there
	DiskFree     int64     `json:"disk_free_bytes"` // room there is; 0: not known on this system
	SpillFree    int64     `json:"spill_free_bytes,omitempty"`
}

// DryRun checks everything that could fail later in a conversion and plans it:
// options, architecture, tensors, tokenizer, calibration text, an earlier
// conversion's journal, memory and disk space. It measures for two seconds how
// fast this machine is, and changes nothing. With an error that is about the
// machine (memory, space) the plan is returned beside it.
func DryRun(ctx context.Context, o Options) (p *Plan, err error) {
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close(nil)) }()
	defer limitHeap(r.Memory)()
	r.dry = true
	if err := r.checkWeights(ctx); err != nil {
		return nil, err
	}
	if err := r.calibrate(ctx); err != nil {
		return nil, err
	}
	done, err := r.finishedBlocks()
	if err != nil {
		return nil, err
	}
	left := r.model.Layers - len(done)
	c, m := r.Calibration, r.model
	p = &Plan{
		Input: r.Input, Output: r.report.Output, Architecture: m.Arch, Method: r.report.Method, Grid: r.report.Grid, Target: r.report.Target,
		Threads: r.Threads, Kernel: r.report.Kernel, Precision: r.Precision,
		Blocks: m.Layers, Resumed: len(done), Weights: int64(m.Parameters()) * int64(m.Layers),
		Samples: c.Samples, Tokens: c.Len, CalibTokens: r.report.CalibTokens, Sampling: r.sampling, InputBytes: r.report.InputBytes,
	}
	var own int64
	if p.FileBytes, own, err = r.estimateSizes(len(done)); err != nil {
		return nil, err
	}
	budget, broke := r.budget()
	p.Memory = budget
	block := blockFLOPs(r.Method, m.Config, c.Samples, c.Len)
	p.FLOPs = float64(left) * block.sum()
	broke = errors.Join(broke, r.checkDisk(p, own))
	speeds, err := r.measure(ctx)
	if err != nil {
		return nil, err
	}
	p.Seconds = float64(left) * block.seconds(speeds)
	if r.sampling == SamplingNone {
		p.Seconds = speeds.choice * float64(m.Parameters()) * float64(left)
	}
	if p.Seconds > 0 { // no operations without windows: then 0
		p.GFLOPS = p.FLOPs / p.Seconds / 1e9
	}
	if r.sampling == SamplingSelf {
		p.Seconds *= 1 + r.textWork()/float64(m.Layers)
	}
	return p, broke
}

// finishedBlocks looks into the journal that the conversion would continue.
func (r *runner) finishedBlocks() (map[int]blockRecord, error) {
	j := &journal{dir: r.Output + JournalSuffix}
	if _, err := os.Stat(j.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, disk.Writable(filepath.Dir(r.Output))
	}
	locked, err := lockJournal(r.Output) // another process may be at it
	if err != nil {
		return nil, err
	}
	defer func() { _ = locked.close(true) }()
	fp, err := r.fingerprint()
	if err != nil {
		return nil, err
	}
	then, err := j.read(fp, r.Resume)
	if err != nil {
		return nil, err
	}
	return j.sound(then, r.check), nil
}

// estimateSizes returns about how large the output will be, and how much room
// a conversion still needs beside it for output and journal.
func (r *runner) estimateSizes(finished int) (file, room int64, err error) {
	blobs, err := r.estimateBlobs()
	if err != nil {
		return 0, 0, err
	}
	others, err := r.otherBytes()
	if err != nil {
		return 0, 0, err
	}
	layers := int64(r.model.Layers)
	file = others + blobs
	return file, file + blobs*(layers-int64(finished))/layers, nil
}

// estimateBlobs returns about how many bytes the pruned layers take.
func (r *runner) estimateBlobs() (int64, error) {
	var sum uint64
	for b := range r.model.Layers {
		m := r.methodFor(b)
		for l := range decoder.NumLinears {
			src, err := r.source(b, l)
			if err != nil {
				return 0, err
			}
			sparsity := m.Sparsity
			if m.Targets[l].Set {
				sparsity = m.Targets[l].Sparsity
			}
			coding, group := unquantised(src.Type).coding, 0
			if m.Grid != besa.GridNone {
				group = m.Group
				coding = sparsefmt.CodingQ4Sym
				if m.Grid == besa.GridAsymmetric {
					coding = sparsefmt.CodingQ4Asym
				}
			}
			n, err := sparsefmt.EstimateBytes(coding, src.Rows(), src.Cols(), group, uint64((1-sparsity)*float64(src.Elements())))
			if err != nil {
				return 0, fmt.Errorf("tensor %q: %w", src.Name, err)
			}
			sum += n
		}
	}
	return int64(sum), nil
}

// otherBytes is about what the output holds besides the pruned layers.
func (r *runner) otherBytes() (int64, error) {
	f := r.model.File()
	pruned := map[string]bool{}
	for b := range r.model.Layers {
		for l := range decoder.NumLinears {
			if src, err := r.source(b, l); err == nil {
				pruned[src.Name] = true
			}
		}
	}
	const row = 160 // of the table of pruned tensors
	n := int64(len(gguf.AppendHeader(nil, f.KVs(), f.Tensors())) + row*len(pruned))
	src, err := r.recode(f)
	if err != nil {
		return 0, err
	}
	for _, t := range src.Tensors() {
		if !pruned[t.Name] {
			n += int64(t.Bytes)
		}
	}
	return n, nil
}

// checkDisk fills in what room there is and compares it with what is needed:
// own bytes for journal and output, and the spill file.
func (r *runner) checkDisk(p *Plan, own int64) error {
	dir := filepath.Dir(r.Output)
	p.DiskBytes = own
	free, known := disk.Free(dir)
	if known {
		p.DiskFree = free
	}
	var broke error
	if spill := p.Memory.Spill; spill > 0 {
		if disk.SameVolume(dir, r.SpillDir) {
			p.DiskBytes += spill
		} else if there, ok := disk.Free(r.SpillDir); ok {
			if p.SpillFree = there; there < spill {
				broke = noRoom(r.SpillDir, spill, there)
			}
		}
		broke = errors.Join(broke, disk.Writable(r.SpillDir))
	}
	if known && free < p.DiskBytes {
		broke = errors.Join(broke, noRoom(dir, p.DiskBytes, free))
	}
	return broke
}

func noRoom(dir string, need, have int64) error {
	return &fs.PathError{Op: fmt.Sprintf("%s are needed, %s are free: write to", sizeText(need), sizeText(have)), Path: dir, Err: syscall.ENOSPC}
}

package convert

import (
	"context"
	"fmt"
	"os"

	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/model"
	"besa/sparsefmt"
)

// assemble writes the sparse GGUF from the finished blocks. It grows in the
// journal's folder, so that nothing but that is left if the process is killed.
func (r *runner) assemble(ctx context.Context) error {
	r.event(Event{Stage: StageWrite, Block: r.model.Layers, Done: 1})
	var weights, survivors uint64
	blobs := map[string]sparsefmt.Blob{}
	for b := range r.model.Layers {
		r.report.Blocks = append(r.report.Blocks, r.journal.blocks[b].Report)
		_ = r.journal.each(b, func(_ int, blob sparsefmt.Blob) error {
			weights += blob.Info.Elements()
			survivors += blob.Info.Survivors
			blobs[blob.Info.Name] = blob
			return nil
		})
	}
	r.report.Sparsity = 1 - float64(survivors)/float64(weights)
	r.outputs = []string{r.Output}
	if !r.journal.named {
		if err := r.write(ctx, blobs); err != nil {
			return err
		}
	}
	for _, path := range r.outputs {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		r.report.FileBytes += info.Size()
	}
	r.report.Parts = len(r.outputs)
	return r.weigh()
}

// weigh reports what the blocks' weights take in the written file.
func (r *runner) weigh() error {
	f, err := sparsefmt.Open(r.outputs[0])
	if err != nil {
		return err
	}
	defer f.Close()
	var stored, weights uint64
	for b := range r.model.Layers {
		var inBlock, blockWeights uint64
		for l := range decoder.NumLinears {
			t, ok := f.Tensor(model.TensorName(b, l))
			if !ok {
				return fmt.Errorf("%s: tensor %q is missing", f.Path(), model.TensorName(b, l))
			}
			inBlock += t.StoredBytes
			blockWeights += t.Elements()
		}
		r.report.Blocks[b].BitsPerWeight = 8 * float64(inBlock) / float64(blockWeights)
		stored += inBlock
		weights += blockWeights
	}
	r.report.BitsPerWeight = 8 * float64(stored) / float64(weights)
	return nil
}

// write writes the file and gives it its name. Parts get theirs at once: only
// all together are they a model.
func (r *runner) write(ctx context.Context, blobs map[string]sparsefmt.Blob) error {
	kvs, err := r.provenance()
	if err != nil {
		return err
	}
	src, err := r.recode(r.model.File())
	if err != nil {
		return err
	}
	src = r.tune(src)
	opts := sparsefmt.CreateOptions{Layout: r.Layout, Provenance: kvs, FileType: fileType(blobs)}
	if r.SplitMaxSize != 0 {
		r.outputs, err = sparsefmt.CreateSplit(ctx, r.Output, r.SplitMaxSize, src, blobs, opts)
		if err == nil {
			r.report.Output = r.outputs[0]
		}
		return err
	}
	if err := sparsefmt.Create(ctx, r.journal.path(outputName), src, blobs, opts); err != nil {
		return fmt.Errorf("write %s: %w", r.Output, err)
	}
	return r.journal.name(r.Output)
}

// fileType is llama.cpp's number (general.file_type) for a file whose linear
// layers have the type that ours expand to.
func fileType(blobs map[string]sparsefmt.Blob) uint32 {
	byType := map[gguf.Type]uint32{gguf.F16: 1, gguf.Q4_0: 2, gguf.Q4_1: 3, gguf.BF16: 32}
	return byType[blobs[model.TensorName(0, decoder.Q)].Info.Type()]
}

// provenance says in the file's metadata how it was made.
func (r *runner) provenance() ([]gguf.KV, error) {
	m := r.Method
	values := append(methodEntries(m),
		entry{"besa.tool.version", r.Version},
		entry{"besa.sparsity.target", m.Sparsity},
		entry{"besa.sparsity.achieved", r.report.Sparsity},
		entry{"besa.seed", r.Calibration.Seed},
		entry{"besa.precision", string(r.Precision)},
	)
	values = append(values, r.calibrationEntries()...)
	if r.Head != "" {
		values = append(values, entry{"besa.head_type", r.Head})
	}
	if len(r.Targets) > 0 {
		values = append(values, entry{"besa.sparsity.tensor_targets", fmt.Sprintf("%v", r.Targets)})
	}
	var kvs []gguf.KV
	for _, v := range values {
		kv, err := gguf.NewKV(v.key, v.value)
		if err != nil {
			return nil, fmt.Errorf("metadata %s: %w", v.key, err)
		}
		kvs = append(kvs, kv)
	}
	return kvs, nil
}

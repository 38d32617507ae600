// Package model opens a model file as a stack of decoder blocks.
//
// In: the path of a GGUF, ordinary or sparse. Out: the architecture's sizes,
// the embedding, one block's weights at a time as float32, and the output
// head. Every shape is checked when the model is opened, so that nothing fails
// later for a reason that the header already shows.
package model

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/tokenizer"
	"besa/sparsefmt"
)

// ErrUnsupported marks a model whose architecture or variant besa cannot run.
var ErrUnsupported = errors.New("unsupported model")

// Model is an open model file.
type Model struct {
	decoder.Config
	Arch    string
	Layers  int
	Vocab   int
	Context int // tokens the model was trained for

	file   *gguf.File
	sparse *sparsefmt.File // nil for an ordinary GGUF
}

// Open opens the model at path and checks architecture and tensors.
func Open(path string) (*Model, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	m := &Model{file: f}
	if sparsefmt.IsSparse(f) {
		f.Close()
		if m.sparse, err = sparsefmt.Open(path); err != nil {
			return nil, err
		}
		m.file = m.sparse.GGUF()
	}
	if err := m.inspect(); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Close releases the file.
func (m *Model) Close() error {
	if m.sparse != nil {
		return m.sparse.Close()
	}
	return m.file.Close()
}

// File is the GGUF behind the model.
func (m *Model) File() *gguf.File { return m.file }

// Sparse reports whether the file is a sparse GGUF.
func (m *Model) Sparse() bool { return m.sparse != nil }

func (m *Model) inspect() error {
	arch, ok := m.file.String("general.architecture")
	if !ok {
		return fmt.Errorf("%w: the file names no architecture (general.architecture)", ErrUnsupported)
	}
	read, ok := architectures[arch]
	if !ok {
		return fmt.Errorf("%w: architecture %q; supported: %s", ErrUnsupported, arch, Supported())
	}
	m.Arch = arch
	h := header{m.file, arch}
	if err := h.sizes(m); err != nil {
		return err
	}
	if err := read(h, m); err != nil {
		return err
	}
	if err := m.ropeFactors(); err != nil {
		return err
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if err := m.checkTensors(); err != nil {
		return err
	}
	return tokenizer.CheckFile(m.file)
}

// ropeFactors reads LLaMA 3's per-frequency divisors where the file has them.
func (m *Model) ropeFactors() error {
	const name = "rope_freqs.weight"
	shape, ok := m.shape(name)
	if !ok {
		return nil
	}
	if len(shape) != 1 || shape[0] != uint64(m.RopeDim/2) {
		return fmt.Errorf("tensor %q has shape %v, not [%d]", name, shape, m.RopeDim/2)
	}
	m.RopeFactors = make([]float32, m.RopeDim/2)
	return m.read(name, m.RopeFactors)
}

// shape looks a tensor's logical shape up.
func (m *Model) shape(name string) ([]uint64, bool) {
	if m.sparse != nil {
		t, ok := m.sparse.Tensor(name)
		return t.Shape, ok
	}
	t, ok := m.file.Tensor(name)
	return t.Shape, ok
}

// names lists the logical tensors.
func (m *Model) names() []string {
	var names []string
	if m.sparse != nil {
		for _, t := range m.sparse.Tensors() {
			names = append(names, t.Name)
		}
		return names
	}
	for _, t := range m.file.Tensors() {
		names = append(names, t.Name)
	}
	return names
}

// read fills dst with a tensor's values.
func (m *Model) read(name string, dst []float32) error {
	if m.sparse != nil {
		return m.sparse.ReadFloats(name, dst)
	}
	t, ok := m.file.Tensor(name)
	if !ok {
		return fmt.Errorf("tensor %q is missing", name)
	}
	// Once read, the pages need not count as this process's memory.
	defer m.file.Release(t)
	return m.file.ReadFloats(t, dst)
}

// TensorName is the name of linear layer l of a block in the file.
func TensorName(block int, l decoder.Linear) string {
	return fmt.Sprintf("blk.%d.%s.weight", block, l)
}

// AttnNormName is the name of the gains in front of a block's attention.
func AttnNormName(block int) string { return fmt.Sprintf("blk.%d.%s", block, attnNorm) }

// FFNNormName is the name of the gains in front of a block's feed-forward network.
func FFNNormName(block int) string { return fmt.Sprintf("blk.%d.%s", block, ffnNorm) }

const (
	embedding  = "token_embd.weight"
	attnNorm   = "attn_norm.weight" // behind the block's number
	ffnNorm    = "ffn_norm.weight"
	outputNorm = "output_norm.weight"
	output     = "output.weight"
)

// checkTensors makes sure that every tensor that the forward pass needs is
// there in the right shape, and that no block has one that it would ignore.
func (m *Model) checkTensors() error {
	h := uint64(m.Hidden)
	shape, ok := m.shape(embedding)
	if !ok || len(shape) != 2 || shape[0] != h || shape[1] < 1 || shape[1] > math.MaxInt32 {
		return fmt.Errorf("tensor %q has shape %v, not [%d vocabulary]", embedding, shape, h)
	}
	m.Vocab = int(shape[1])
	if err := m.expect(embedding, h, shape[1]); err != nil {
		return err
	}
	if err := m.expect(outputNorm, h); err != nil {
		return err
	}
	if _, ok := m.shape(output); ok {
		if err := m.expect(output, h, uint64(m.Vocab)); err != nil {
			return err
		}
	}
	for i := range m.Layers {
		for l := range decoder.NumLinears {
			rows, cols := m.Shape(l)
			if err := m.expect(TensorName(i, l), uint64(cols), uint64(rows)); err != nil {
				return err
			}
		}
		for suffix, optional := range m.vectors() {
			name := fmt.Sprintf("blk.%d.%s", i, suffix)
			if _, ok := m.shape(name); !ok && optional.optional {
				continue
			}
			if err := m.expect(name, uint64(optional.size)); err != nil {
				return err
			}
		}
	}
	return m.checkNoOthers()
}

type vector struct {
	size     int
	optional bool
}

// vectors lists the one-dimensional tensors of a block.
func (m *Model) vectors() map[string]vector {
	return map[string]vector{
		attnNorm:             {m.Hidden, false},
		ffnNorm:              {m.Hidden, false},
		"attn_q.bias":        {m.QDim(), true},
		"attn_k.bias":        {m.KVDim(), true},
		"attn_v.bias":        {m.KVDim(), true},
		"attn_q_norm.weight": {m.HeadDim, true},
		"attn_k_norm.weight": {m.HeadDim, true},
	}
}

// checkNoOthers refuses block tensors that the forward pass does not know.
func (m *Model) checkNoOthers() error {
	known := map[string]bool{}
	for l := range decoder.NumLinears {
		known[l.String()+".weight"] = true
	}
	for v := range m.vectors() {
		known[v] = true
	}
	for _, name := range m.names() {
		rest, ok := strings.CutPrefix(name, "blk.")
		if !ok {
			continue
		}
		number, suffix, _ := strings.Cut(rest, ".")
		if i, err := strconv.Atoi(number); err != nil || i < 0 || i >= m.Layers {
			return fmt.Errorf("%w: tensor %q lies outside the model's %d blocks", ErrUnsupported, name, m.Layers)
		}
		if !known[suffix] && suffix != "attn_rot_embd" && suffix != "attn_rot_embd.weight" {
			return fmt.Errorf("%w: architecture %q with a tensor %q", ErrUnsupported, m.Arch, name)
		}
	}
	return nil
}

func (m *Model) expect(name string, want ...uint64) error {
	got, ok := m.shape(name)
	if !ok {
		return fmt.Errorf("tensor %q is missing", name)
	}
	// A trailing dimension of 1 is the same shape.
	for len(got) > len(want) && got[len(got)-1] == 1 {
		got = got[:len(got)-1]
	}
	same := len(got) == len(want)
	for i := range want {
		same = same && got[i] == want[i]
	}
	if !same {
		return fmt.Errorf("tensor %q has shape %v, not %v", name, got, want)
	}
	if t, ok := m.file.Tensor(name); ok && !t.Type.CanDequantize() {
		return fmt.Errorf("%w: tensor %q is %s; start from a file in F16, BF16, Q8_0 or another type that besa reads", ErrUnsupported, name, t.Type)
	}
	return nil
}

// Block reads block i.
func (m *Model) Block(i int) (*decoder.Block[float32], error) {
	b := &decoder.Block[float32]{}
	for l := range decoder.NumLinears {
		rows, cols := m.Shape(l)
		b.W[l] = kernel.NewMat[float32](rows, cols)
		if err := m.read(TensorName(i, l), b.W[l].Data); err != nil {
			return nil, err
		}
	}
	for suffix, dst := range map[string]*[]float32{
		attnNorm: &b.AttnNorm, ffnNorm: &b.FFNNorm,
		"attn_q.bias": &b.Bias[decoder.Q], "attn_k.bias": &b.Bias[decoder.K], "attn_v.bias": &b.Bias[decoder.V],
		"attn_q_norm.weight": &b.QNorm, "attn_k_norm.weight": &b.KNorm,
	} {
		name := fmt.Sprintf("blk.%d.%s", i, suffix)
		if _, ok := m.shape(name); !ok {
			continue
		}
		*dst = make([]float32, m.vectors()[suffix].size)
		if err := m.read(name, *dst); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Embedding reads the token embedding, vocabulary × hidden.
func (m *Model) Embedding() (kernel.Mat[float32], error) {
	e := kernel.NewMat[float32](m.Vocab, m.Hidden)
	return e, m.read(embedding, e.Data)
}

// EmbedTokens writes the embeddings of ids to dst (tokens × hidden). It reads
// only the rows that it needs.
func (m *Model) EmbedTokens(dst kernel.Mat[float32], ids []int32) error {
	t, ok := m.file.Tensor(embedding)
	if !ok {
		return fmt.Errorf("tensor %q is missing", embedding)
	}
	defer m.file.Release(t)
	data, row := m.file.Data(t), t.Bytes/t.Rows()
	err := gguf.GuardFault(func() error {
		for i, id := range ids {
			if id < 0 || int(id) >= m.Vocab {
				return fmt.Errorf("token %d at position %d is outside the vocabulary of %d", id, i, m.Vocab)
			}
			if err := gguf.Dequantize(t.Type, dst.Row(i), data[uint64(id)*row:uint64(id+1)*row]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tensor %q: %w", embedding, err)
	}
	return nil
}

// Head is what follows the last block.
type Head struct {
	Norm    []float32           // hidden
	Weights kernel.Mat[float32] // vocabulary × hidden
}

// Head reads the output norm and matrix (the embedding where they are tied).
func (m *Model) Head() (*Head, error) {
	h := &Head{Norm: make([]float32, m.Hidden), Weights: kernel.NewMat[float32](m.Vocab, m.Hidden)}
	if err := m.read(outputNorm, h.Norm); err != nil {
		return nil, err
	}
	name := output
	if _, ok := m.shape(name); !ok {
		name = embedding
	}
	return h, m.read(name, h.Weights.Data)
}

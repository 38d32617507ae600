// Command bench-model writes a language model with random weights for
// measurements of speed: LLaMA architecture, 1.1 billion parameters, Q4_0, a
// given share of every row's weights pruned, a vocabulary of made-up words. In:
// the path of the GGUF file and flags. Out: the file, and with --sparse the same
// model as a sparse GGUF; what it says is nonsense, but every product has the
// size and the sparsity pattern of a real one.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"

	"besa/gguf"
)

const (
	width   = 2048
	ffn     = 5632
	layers  = 22
	heads   = 32
	kvHeads = 4
	vocab   = 32000
	trained = 2048

	block = 32  // weights of a Q4_0 block
	group = 128 // weights that share a scale
)

func main() {
	sparsity := flag.Float64("sparsity", 0.5, "share of pruned weights in every row of the blocks' matrices")
	window := flag.Int("window", 0, "prune the same number of weights in every run of so many (0: anywhere in the row)")
	sparse := flag.String("sparse", "", "also write the model as a sparse GGUF to this file")
	imatrix := flag.String("imatrix", "", "write an importance matrix of ones, for llama-quantize, to this file instead")
	flag.Parse()
	if *imatrix != "" && flag.NArg() == 0 {
		must(writeImatrix(*imatrix))
		return
	}
	if flag.NArg() != 1 || *sparsity < 0 || *sparsity > 1 || *window < 0 || *window > 0 && (width%*window != 0 || ffn%*window != 0) {
		fmt.Fprintln(os.Stderr, "usage: bench-model [--sparsity 0.5] [--window 64] [--sparse OUT.sparse.gguf] OUT.gguf, or bench-model --imatrix OUT.imatrix.gguf")
		os.Exit(2)
	}
	must(write(flag.Arg(0), *sparsity, *window))
	if *sparse != "" {
		must(writeSparse(flag.Arg(0), *sparse))
	}
}

// must ends the program where there is an error.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-model:", err)
		os.Exit(3)
	}
}

type matrix struct {
	name       string
	rows, cols int
	pruned     bool
}

// matrices lists the model's tensors but for the norms.
func matrices() []matrix {
	kv := width / heads * kvHeads
	all := []matrix{{"token_embd.weight", vocab, width, false}, {"output.weight", vocab, width, false}}
	for i := range layers {
		for _, m := range []matrix{
			{"attn_q", width, width, true}, {"attn_k", kv, width, true}, {"attn_v", kv, width, true},
			{"attn_output", width, width, true}, {"ffn_gate", ffn, width, true}, {"ffn_up", ffn, width, true},
			{"ffn_down", width, ffn, true},
		} {
			m.name = fmt.Sprintf("blk.%d.%s.weight", i, m.name)
			all = append(all, m)
		}
	}
	return all
}

func norms() []string {
	names := []string{"output_norm.weight"}
	for i := range layers {
		names = append(names, fmt.Sprintf("blk.%d.attn_norm.weight", i), fmt.Sprintf("blk.%d.ffn_norm.weight", i))
	}
	return names
}

// Kinds of tokens, as llama.cpp numbers them.
const (
	normalToken  = int32(1)
	unknownToken = int32(2)
	controlToken = int32(3)
	byteToken    = int32(6)
)

// words makes a SentencePiece vocabulary: the special tokens, the bytes, and
// numbered words.
func words() (tokens []string, scores []float32, kinds []int32) {
	add := func(token string, kind int32) {
		tokens, scores, kinds = append(tokens, token), append(scores, -float32(len(tokens))), append(kinds, kind)
	}
	add("<unk>", unknownToken)
	add("<s>", controlToken)
	add("</s>", controlToken)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), byteToken)
	}
	for len(tokens) < vocab {
		add(fmt.Sprintf("\u2581w%d", len(tokens)), normalToken)
	}
	return tokens, scores, kinds
}

func keys() []gguf.KV {
	tokens, scores, kinds := words()
	return []gguf.KV{
		gguf.MustKV("general.architecture", "llama"),
		gguf.MustKV("general.name", "random weights"),
		gguf.MustKV("general.file_type", uint32(2)),
		gguf.MustKV("general.quantization_version", uint32(2)),
		gguf.MustKV("llama.block_count", uint32(layers)),
		gguf.MustKV("llama.context_length", uint32(trained)),
		gguf.MustKV("llama.embedding_length", uint32(width)),
		gguf.MustKV("llama.feed_forward_length", uint32(ffn)),
		gguf.MustKV("llama.attention.head_count", uint32(heads)),
		gguf.MustKV("llama.attention.head_count_kv", uint32(kvHeads)),
		gguf.MustKV("llama.attention.layer_norm_rms_epsilon", float32(1e-5)),
		gguf.MustKV("llama.vocab_size", uint32(vocab)),
		gguf.MustKV("tokenizer.ggml.model", "llama"),
		gguf.MustKV("tokenizer.ggml.tokens", tokens),
		gguf.MustKV("tokenizer.ggml.scores", scores),
		gguf.MustKV("tokenizer.ggml.token_type", kinds),
		gguf.MustKV("tokenizer.ggml.bos_token_id", uint32(1)),
		gguf.MustKV("tokenizer.ggml.eos_token_id", uint32(2)),
		gguf.MustKV("tokenizer.ggml.unknown_token_id", uint32(0)),
	}
}

func write(path string, sparsity float64, window int) error {
	var tensors []gguf.Tensor
	for _, m := range matrices() {
		tensors = append(tensors, gguf.Tensor{Name: m.name, Type: gguf.Q4_0, Shape: []uint64{uint64(m.cols), uint64(m.rows)}})
	}
	for _, name := range norms() {
		tensors = append(tensors, gguf.Tensor{Name: name, Type: gguf.F32, Shape: []uint64{width}})
	}
	w, err := gguf.Create(path, keys(), tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	for i, m := range matrices() {
		share := sparsity
		if !m.pruned {
			share = 0
		}
		if err := w.WriteTensor(m.name, m.q4(uint64(i), share, window)); err != nil {
			return err
		}
	}
	for _, name := range norms() {
		if err := w.WriteTensor(name, ones(width)); err != nil {
			return err
		}
	}
	return w.Commit()
}

// q4 returns the matrix in Q4_0. Each row is a function of its number and the
// seed alone, so the file does not depend on the number of threads.
func (m matrix) q4(seed uint64, sparsity float64, window int) []byte {
	rowBytes := m.cols / block * 18
	data := make([]byte, m.rows*rowBytes)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		wg.Go(func() {
			codes := make([]byte, m.cols)
			for r := k; r < m.rows; r += workers {
				rnd := rand.New(rand.NewPCG(seed, uint64(r)))
				m.codes(codes, rnd, sparsity, window)
				m.pack(data[r*rowBytes:(r+1)*rowBytes], codes, rnd)
			}
		})
	}
	wg.Wait()
	return data
}

// codes draws a row: 8 is a pruned weight.
func (m matrix) codes(codes []byte, rnd *rand.Rand, sparsity float64, window int) {
	if window == 0 {
		window = m.cols
	}
	for from := 0; from < m.cols; from += window {
		prune := int(sparsity*float64(window) + 0.5)
		for i := range window {
			codes[from+i] = byte(rnd.IntN(15))
			if codes[from+i] >= 8 {
				codes[from+i]++
			}
			// Selection sampling: of the weights that are left, so many are still to be pruned.
			if rnd.IntN(window-i) < prune {
				codes[from+i] = 8
				prune--
			}
		}
	}
}

func (m matrix) pack(row, codes []byte, rnd *rand.Rand) {
	var d uint16
	for b := range m.cols / block {
		if b%(group/block) == 0 {
			d = gguf.F32ToF16(float32((0.15 + 0.1*rnd.Float64()) / math.Sqrt(float64(m.cols))))
		}
		binary.LittleEndian.PutUint16(row[18*b:], d)
		for i := range block / 2 {
			row[18*b+2+i] = codes[b*block+i] | codes[b*block+block/2+i]<<4
		}
	}
}

// Command synthetic-model writes a GGUF of the LLaMA architecture with random
// weights, for measuring speed and memory on shapes that no small trained model
// has. By default its blocks are those of LLaMA-7B.
//
// In: sizes. Out: model.gguf and calibration.txt in a folder. Tokenizer, text
// and vocabulary are the demo model's. Weights are Q8_0, normally distributed
// with a standard deviation of 0.02; the same sizes give the same file.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"besa/gguf"
	"besa/internal/demomodel"
)

func main() {
	var s sizes
	dir := flag.String("dir", ".", "folder to write to")
	flag.IntVar(&s.hidden, "hidden", 4096, "hidden size")
	flag.IntVar(&s.ffn, "ffn", 11008, "feed-forward size")
	flag.IntVar(&s.heads, "heads", 32, "query heads")
	flag.IntVar(&s.kvHeads, "kv-heads", 32, "key/value heads")
	flag.IntVar(&s.blocks, "blocks", 2, "blocks")
	flag.IntVar(&s.context, "context", 2048, "context length")
	flag.Parse()
	if err := write(*dir, s); err != nil {
		fmt.Fprintln(os.Stderr, "synthetic-model:", err)
		os.Exit(1)
	}
}

type sizes struct{ hidden, ffn, heads, kvHeads, blocks, context int }

// vocabulary is the demo model's.
const vocabulary = 1024

func write(dir string, s sizes) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "calibration.txt"), []byte(demomodel.Calibration()), 0o644); err != nil {
		return err
	}
	kvs, err := metadata(dir, s)
	if err != nil {
		return err
	}
	w, err := gguf.Create(filepath.Join(dir, "model.gguf"), kvs, tensors(s))
	if err != nil {
		return err
	}
	for i, t := range w.Tensors() {
		if err := w.WriteTensor(t.Name, weights(t, uint64(i))); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	return w.Commit()
}

// metadata is the demo model's with other sizes.
func metadata(dir string, s sizes) ([]gguf.KV, error) {
	path := filepath.Join(dir, ".demo.gguf")
	defer os.Remove(path)
	if err := os.WriteFile(path, demomodel.Model(), 0o644); err != nil {
		return nil, err
	}
	demo, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer demo.Close()
	own := []gguf.KV{
		gguf.MustKV("general.architecture", "llama"), gguf.MustKV("general.name", "synthetic"),
		gguf.MustKV("llama.block_count", uint32(s.blocks)), gguf.MustKV("llama.context_length", uint32(s.context)),
		gguf.MustKV("llama.embedding_length", uint32(s.hidden)), gguf.MustKV("llama.feed_forward_length", uint32(s.ffn)),
		gguf.MustKV("llama.attention.head_count", uint32(s.heads)), gguf.MustKV("llama.attention.head_count_kv", uint32(s.kvHeads)),
		gguf.MustKV("llama.attention.layer_norm_rms_epsilon", float32(1e-5)),
	}
	for _, kv := range demo.KVs() {
		if strings.HasPrefix(kv.Key, "tokenizer.") {
			kv.Raw = slices.Clone(kv.Raw) // it is the mapping's, which Close takes away
			own = append(own, kv)
		}
	}
	return own, nil
}

func tensors(s sizes) []gguf.Tensor {
	h, f := uint64(s.hidden), uint64(s.ffn)
	kv := h / uint64(s.heads) * uint64(s.kvHeads)
	all := []gguf.Tensor{
		{Name: "token_embd.weight", Type: gguf.Q8_0, Shape: []uint64{h, vocabulary}},
		{Name: "output_norm.weight", Type: gguf.F32, Shape: []uint64{h}},
	}
	for b := range s.blocks {
		for _, t := range []gguf.Tensor{
			{Name: "attn_norm", Type: gguf.F32, Shape: []uint64{h}}, {Name: "ffn_norm", Type: gguf.F32, Shape: []uint64{h}},
			{Name: "attn_q", Type: gguf.Q8_0, Shape: []uint64{h, h}}, {Name: "attn_k", Type: gguf.Q8_0, Shape: []uint64{h, kv}},
			{Name: "attn_v", Type: gguf.Q8_0, Shape: []uint64{h, kv}}, {Name: "attn_output", Type: gguf.Q8_0, Shape: []uint64{h, h}},
			{Name: "ffn_gate", Type: gguf.Q8_0, Shape: []uint64{h, f}}, {Name: "ffn_up", Type: gguf.Q8_0, Shape: []uint64{h, f}},
			{Name: "ffn_down", Type: gguf.Q8_0, Shape: []uint64{f, h}},
		} {
			t.Name = fmt.Sprintf("blk.%d.%s.weight", b, t.Name)
			all = append(all, t)
		}
	}
	return all
}

// weights makes the data of one tensor: ones for norms, else random numbers.
func weights(t gguf.Tensor, seed uint64) []byte {
	values := make([]float32, t.Cols())
	var data []byte
	rng := rand.New(rand.NewPCG(seed, 0x73796e))
	for range t.Rows() {
		for j := range values {
			if values[j] = 1; t.Type != gguf.F32 {
				values[j] = 0.02 * float32(rng.NormFloat64())
			}
		}
		row := make([]byte, t.Bytes/t.Rows())
		if err := gguf.Quantize(t.Type, row, values); err != nil {
			panic(err) // only for types that it cannot write
		}
		data = append(data, row...)
	}
	return data
}

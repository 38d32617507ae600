package eval

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/demomodel"
)

// extra is a one-dimensional tensor that an architecture has beyond LLaMA's.
type extra struct {
	suffix string
	size   uint64
	mean   float64
}

// writeVariant writes the demo model as another architecture, with random
// values in the tensors that it has beyond LLaMA's.
func writeVariant(t *testing.T, arch string, kvs []gguf.KV, extras []extra) string {
	t.Helper()
	src := demomodel.File(t)
	return writeF32(t, src, extras, func(old []gguf.KV) []gguf.KV {
		for _, kv := range old {
			if rest, ok := strings.CutPrefix(kv.Key, "llama."); ok {
				kv.Key = arch + "." + rest
			}
			if kv.Key == "general.architecture" {
				kv = gguf.MustKV(kv.Key, arch)
			}
			kvs = append(kvs, kv)
		}
		return kvs
	})
}

// writeF32 writes the model at path with every tensor as float32, its metadata
// changed, and random values in extra tensors of every block.
func writeF32(t *testing.T, path string, extras []extra, change func([]gguf.KV) []gguf.KV) string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	tensors := slices.Clone(f.Tensors())
	for block := range 4 {
		for _, e := range extras {
			tensors = append(tensors, gguf.Tensor{Name: fmt.Sprintf("blk.%d.%s", block, e.suffix), Shape: []uint64{e.size}})
		}
	}
	for i := range tensors {
		tensors[i].Type, tensors[i].Bytes = gguf.F32, 4*tensors[i].Elements()
	}
	out := filepath.Join(t.TempDir(), "f32.gguf")
	w, err := gguf.Create(out, change(slices.Clone(f.KVs())), tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i, x := range tensors {
		values := make([]float32, x.Elements())
		if src, ok := f.Tensor(x.Name); ok {
			if err := f.ReadFloats(src, values); err != nil {
				t.Fatal(err)
			}
		} else {
			mean := extras[(i-len(f.Tensors()))%len(extras)].mean
			for j := range values {
				values[j] = float32(mean + 0.3*rng.NormFloat64())
			}
		}
		if err := w.WriteTensor(x.Name, floatBytes(values)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return out
}

func floatBytes(values []float32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// TestArchitecturesAgreeWithLlamaCpp runs every architecture besides LLaMA in
// both engines: rotary layout, biases and head norms must be llama.cpp's.
func TestArchitecturesAgreeWithLlamaCpp(t *testing.T) {
	library := assets.Path(t, assets.Llama)
	for arch, tc := range map[string]struct {
		kvs    []gguf.KV
		extras []extra
	}{
		"qwen2": {nil, []extra{{"attn_q.bias", 256, 0}, {"attn_k.bias", 64, 0}, {"attn_v.bias", 64, 0}}},
		"qwen3": {
			[]gguf.KV{gguf.MustKV("qwen3.attention.key_length", uint32(32)), gguf.MustKV("qwen3.attention.value_length", uint32(32))},
			[]extra{{"attn_q_norm.weight", 32, 1}, {"attn_k_norm.weight", 32, 1}},
		},
	} {
		t.Run(arch, func(t *testing.T) {
			path := writeVariant(t, arch, tc.kvs, tc.extras)
			ours, err := LoadGo(path, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			theirs, err := LoadLlama(path, LlamaOptions{Library: library, Threads: 1, Precise: true})
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			compareLogits(t, ours, theirs, 200)
		})
	}
}

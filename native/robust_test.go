package native_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yzma "github.com/hybridgroup/yzma/pkg/llama"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/llama"
	"besa/native"
	"besa/sparsefmt"
)

// options are what only llama.cpp's own interface can be asked for.
type options struct {
	Adapter   string // a LoRA file
	GPULayers int32
}

// runWith evaluates the first model through llama.cpp's own interface.
func (j job) runWith(o options) (r result, err error) {
	m, err := llama.Load(context.Background(), j.Models[0], llama.Options{Library: j.Library})
	if err != nil {
		return r, err
	}
	defer m.Close()
	_, _, r.Sparse = m.Sparse()
	ids, err := m.Tokenize("And God said, Let there be light: and there was light.", true, false)
	if err != nil {
		return r, err
	}
	params := yzma.ModelDefaultParams()
	params.NGpuLayers = o.GPULayers
	model, err := yzma.ModelLoadFromFile(j.Models[0], params)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, yzma.ModelFree(model)) }()
	c := yzma.ContextDefaultParams()
	c.NCtx, c.NThreads, c.NThreadsBatch = 64, int32(j.Threads), int32(j.Threads)
	ctx, err := yzma.InitFromModel(model, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, yzma.Free(ctx)) }()
	if o.Adapter != "" {
		adapter, err := yzma.AdapterLoraInit(model, o.Adapter)
		if err != nil || adapter == 0 {
			return r, fmt.Errorf("llama.cpp does not take the adapter: %w", err)
		}
		if code := yzma.SetAdaptersLora(ctx, []yzma.AdapterLora{adapter}, []float32{1}); code != 0 {
			return r, fmt.Errorf("llama_set_adapters_lora returns %d", code)
		}
	}
	var tokens []yzma.Token
	for _, id := range ids {
		tokens = append(tokens, yzma.Token(id))
	}
	for n := len(tokens) / 2; len(tokens) > 0; n = 1 {
		if code, err := yzma.Decode(ctx, yzma.BatchGetOne(tokens[:n])); err != nil || code != 0 {
			return r, fmt.Errorf("llama_decode returns %d: %w", code, err)
		}
		tokens = tokens[n:]
		row, err := yzma.GetLogitsIth(ctx, -1, m.Vocab())
		if err != nil {
			return r, err
		}
		r.Logits = append(r.Logits, row...)
	}
	return r, nil
}

// adapter writes a LoRA of rank 8 for the tiny model's attention and one product more.
func adapter(t *testing.T, model string) string {
	t.Helper()
	src, err := gguf.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const rank = 8
	rnd := rand.New(rand.NewPCG(8, 8))
	var tensors []gguf.Tensor
	for _, x := range src.Tensors() {
		if strings.Contains(x.Name, "attn_q") || strings.Contains(x.Name, "attn_output.") || strings.Contains(x.Name, "ffn_down") {
			tensors = append(tensors, gguf.Tensor{Name: x.Name + ".lora_a", Type: gguf.F32, Shape: []uint64{x.Shape[0], rank}},
				gguf.Tensor{Name: x.Name + ".lora_b", Type: gguf.F32, Shape: []uint64{rank, x.Shape[1]}})
		}
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	w, err := gguf.Create(path, []gguf.KV{gguf.MustKV("general.type", "adapter"), gguf.MustKV("general.architecture", "llama"),
		gguf.MustKV("adapter.type", "lora"), gguf.MustKV("adapter.lora.alpha", float32(2*rank))}, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, x := range tensors {
		values, data := make([]float32, x.Elements()), make([]byte, 4*x.Elements())
		for i := range values {
			values[i] = float32(rnd.NormFloat64() * 0.05)
		}
		if err := gguf.Quantize(gguf.F32, data, values); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteTensor(x.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// A LoRA adapter acts on a model that the plugin runs as it does on stock's.
func TestAdapter(t *testing.T) {
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	for _, coding := range []sparsefmt.Coding{sparsefmt.CodingQ4Sym, sparsefmt.CodingF16} {
		model := prunedDemo(t, coding, 0.5)
		o := options{Adapter: adapter(t, model)}
		without, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1, Options: &options{}})
		stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1, Options: &o})
		if d := native.Distance(stock.Logits, without.Logits); d < 0.1 {
			t.Errorf("%v: the adapter changes logits by %.2g only", coding, d)
		}
		for _, route := range []string{"extra", "accel"} {
			got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1, Options: &o}, with, "BESA_NATIVE="+route)
			d := native.Distance(got.Logits, stock.Logits)
			t.Logf("%v, %s: distance of logits %.2g", coding, route, d)
			if len(got.Logits) != len(stock.Logits) || !(d < 0.01) || strings.Contains(messages, "besa:") {
				t.Errorf("%v, %s: %d logits, distance %g; %s", coding, route, len(got.Logits), d, messages)
			}
		}
	}
}

// Without a GPU, layers that are to be offloaded to one stay with the plugin.
func TestOffloadWithoutGPU(t *testing.T) {
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	model := prunedDemo(t, sparsefmt.CodingQ4Sym, 0.5)
	for _, route := range []string{"extra", "accel"} {
		var all [][]float32
		for _, layers := range []int32{0, 2, 99} {
			r, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1, Options: &options{GPULayers: layers}}, with, "BESA_NATIVE="+route)
			if r.Sparse == 0 || strings.Contains(messages, "besa:") {
				t.Errorf("%s, %d layers: %d sparse tensors; %s", route, layers, r.Sparse, messages)
			}
			all = append(all, r.Logits)
		}
		if !slices.Equal(all[0], all[1]) || !slices.Equal(all[0], all[2]) {
			t.Errorf("%s: the number of layers to offload changes the logits", route)
		}
	}
}

// Tensors of types that the plugin does not execute, and dense ones of a type
// that stock repacks, are stock's: its very logits, except that by route "accel"
// stock multiplies what it would repack as it is.
func TestLeftToStock(t *testing.T) {
	lib := assets.Path(t, assets.Llama)
	with := plugin(t)
	for name, model := range map[string]string{
		"Q4_K":       randomDemo(t, gguf.Q4_K, 144),
		"Q6_K":       randomDemo(t, gguf.Q6_K, 210),
		"Q4_1":       randomDemo(t, gguf.Q4_1, 160),
		"dense Q4_0": prunedDemo(t, sparsefmt.CodingQ4Sym, 0),
	} {
		stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1})
		for _, route := range []string{"extra", "accel"} {
			got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 1}, with, "BESA_NATIVE="+route)
			d := native.Distance(got.Logits, stock.Logits)
			if d > 0 && (name != "dense Q4_0" || route != "accel" || d > 0.01) {
				t.Errorf("%s, %s: distance of logits %g", name, route, d)
			}
			if got.Sparse != 0 || strings.Contains(messages, "besa:") {
				t.Errorf("%s, %s: %d sparse tensors; %s", name, route, got.Sparse, messages)
			}
		}
	}
}

// randomDemo is the tiny model with the blocks' weights random bytes of a type
// of so many bytes per 256 weights; the scales, its fp16 fields, are small.
func randomDemo(t *testing.T, to gguf.Type, bytes int) string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(9, 9))
	small := func(b []byte) { b[1] = b[1]&0x80 | 0x08 | b[1]&0x03 }
	return rewriteDemo(t, func(x *gguf.Tensor, w []float32) []byte {
		if !strings.HasPrefix(x.Name, "blk.") || len(x.Shape) != 2 {
			return nil
		}
		x.Type = to
		data := make([]byte, len(w)/256*bytes)
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		for i := 0; i < len(data); i += bytes {
			switch to {
			case gguf.Q4_K:
				small(data[i:])
				small(data[i+2:])
			case gguf.Q6_K:
				small(data[i+208:])
			case gguf.Q4_1:
				for j := i; j < i+bytes; j += 20 {
					small(data[j:])
					small(data[j+2:])
				}
			}
		}
		return data
	})
}

// The plugin joins llama.cpp built from source, with and without OpenMP.
func TestBuiltFromSource(t *testing.T) {
	tools := filepath.Join(assets.Dir(), "tools")
	if _, err := os.Stat(filepath.Join(tools, "openmp")); err != nil {
		t.Skip("no llama.cpp built from source: scripts/fetch-assets.sh --tools")
	}
	with := plugin(t)
	model := prunedDemo(t, sparsefmt.CodingQ4Sym, 0.5)
	openmp := t.TempDir() // its CPU backend with the others' libraries
	for _, pattern := range []string{"*.so*", "openmp/*.so*"} {
		files, err := filepath.Glob(filepath.Join(tools, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err == nil {
				err = os.WriteFile(filepath.Join(openmp, filepath.Base(f)), data, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, lib := range map[string]string{"threads": tools, "openmp": openmp} {
		stock, _ := runModel(t, job{Library: lib, Models: []string{model}, Threads: 2})
		for _, route := range []string{"extra", "accel"} {
			got, messages := runModel(t, job{Library: lib, Models: []string{model}, Threads: 2}, with, "BESA_NATIVE="+route)
			d := native.Distance(got.Logits, stock.Logits)
			t.Logf("%s, %s: %d sparse tensors, distance of logits %.2g", name, route, got.Sparse, d)
			if !(d < 0.01) || got.Sparse == 0 || strings.Contains(messages, "besa:") {
				t.Errorf("%s, %s: %s", name, route, messages)
			}
		}
	}
}

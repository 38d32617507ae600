package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/demomodel"
)

// crafted is the demo model, to be made hostile in one place.
type crafted struct {
	t       *testing.T
	kvs     []gguf.KV
	tensors []gguf.Tensor
	data    map[string][]byte
}

func craft(t *testing.T) *crafted {
	t.Helper()
	path := demomodel.File(t)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &crafted{t: t, tensors: slices.Clone(f.Tensors()), data: map[string][]byte{}}
	for _, kv := range f.KVs() {
		kv.Raw = bytes.Clone(kv.Raw)
		c.kvs = append(c.kvs, kv)
	}
	for _, x := range c.tensors {
		c.data[x.Name] = bytes.Clone(f.Data(x))
	}
	return c
}

// floats stores a tensor as F32, its values changed.
func (c *crafted) floats(name string, change func(i int, v float32) float32) {
	i := slices.IndexFunc(c.tensors, func(x gguf.Tensor) bool { return x.Name == name })
	x := &c.tensors[i]
	v := make([]float32, x.Elements())
	if err := gguf.Dequantize(x.Type, v, c.data[name]); err != nil {
		c.t.Fatal(err)
	}
	x.Type, x.Bytes = gguf.F32, 0
	b := make([]byte, 0, 4*len(v))
	for i, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(change(i, f)))
	}
	c.data[name] = b
}

// set replaces a key's value.
func (c *crafted) set(key string, v any) {
	i := slices.IndexFunc(c.kvs, func(kv gguf.KV) bool { return kv.Key == key })
	if i < 0 {
		c.t.Fatalf("the demo model has no key %s", key)
	}
	c.kvs[i] = gguf.MustKV(key, v)
}

func (c *crafted) write(path string) {
	w, err := gguf.Create(path, c.kvs, c.tensors)
	if err != nil {
		c.t.Fatal(err)
	}
	defer w.Abort()
	for _, x := range c.tensors {
		if err := w.WriteTensor(x.Name, c.data[x.Name]); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		c.t.Fatal(err)
	}
}

// runBesa runs a command line in this process.
func runBesa(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, streams{in: strings.NewReader(""), out: &out, err: &errs})
	return code, out.String(), errs.String()
}

const ffn = "blk.1.ffn_up.weight"

// hostileModels are well-formed files with a model in them that cannot be
// right, or hardly. What is empty is accepted.
var hostileModels = []struct {
	name    string
	change  func(c *crafted)
	convert string // part of the message
	eval    string
}{
	{"weight_nan", func(c *crafted) { c.floats(ffn, at(77, nan)) }, "not finite", "no finite probability"},
	{"weight_inf", func(c *crafted) { c.floats(ffn, at(77, float32(math.Inf(-1)))) }, "not finite", "no finite probability"},
	{"embedding_nan", func(c *crafted) { c.floats("token_embd.weight", func(int, float32) float32 { return nan }) }, "not finite", "no finite probability"},
	{"norm_nan", func(c *crafted) { c.floats("blk.2.ffn_norm.weight", at(3, nan)) }, "not finite", "no finite probability"},
	{"output_norm_nan", func(c *crafted) { c.floats("output_norm.weight", at(3, nan)) }, "not finite", "no finite probability"},
	{"rows_of_zeros", func(c *crafted) {
		c.floats(ffn, func(i int, v float32) float32 {
			if i/256%3 == 0 {
				return 0
			}
			return v
		})
	}, "", ""},
	{"all_zero", func(c *crafted) { c.floats(ffn, func(int, float32) float32 { return 0 }) }, "", ""},
	{"dead_channel", func(c *crafted) { c.floats("blk.1.ffn_norm.weight", at(9, 0)) }, "", ""},
	{"denormal", func(c *crafted) { c.floats(ffn, func(i int, v float32) float32 { return v * 1e-42 }) }, "", ""},
	{"scale_overflow", func(c *crafted) { c.floats(ffn, at(77, 1e30)) }, "beyond what a 4-bit grid expresses", ""},
	{"tokens_fewer", func(c *crafted) { c.set("tokenizer.ggml.tokens", []string{"a", "b"}) }, "2 tokens, but an embedding of 1024 rows", "2 tokens, but an embedding of 1024 rows"},
	{"tokens_scalar", func(c *crafted) { c.set("tokenizer.ggml.tokens", "a") }, "tokenizer.ggml.tokens", "tokenizer.ggml.tokens"},
	{"token_types_short", func(c *crafted) { c.set("tokenizer.ggml.token_type", []int32{1, 1}) }, "token_type has 2 entries for 1024 tokens", "token_type has 2 entries for 1024 tokens"},
	{"token_type_strings", func(c *crafted) { c.set("tokenizer.ggml.token_type", []string{"x"}) }, "tokenizer.ggml.token_type", "tokenizer.ggml.token_type"},
	{"token_type_uint8", func(c *crafted) { c.set("tokenizer.ggml.token_type", make([]uint8, 1024)) }, "array of uint8, not of int32", "array of uint8, not of int32"},
	{"tokenizer_model", func(c *crafted) { c.set("tokenizer.ggml.model", "../x") }, `"../x"`, `"../x"`},
	{"heads_array", func(c *crafted) { c.set("llama.attention.head_count", []uint32{4, 4, 4, 4}) }, "llama.attention.head_count", "llama.attention.head_count"},
	{"blocks_2^31", func(c *crafted) { c.set("llama.block_count", uint32(1<<31)) }, "block", "block"},
	{"epsilon_nan", func(c *crafted) { c.set("llama.attention.layer_norm_rms_epsilon", nan) }, "epsilon is NaN", "epsilon is NaN"},
	{"context_0", func(c *crafted) { c.set("llama.context_length", uint32(0)) }, "context", "context"},
}

var nan = float32(math.NaN())

func at(place int, value float32) func(int, float32) float32 {
	return func(i int, v float32) float32 {
		if i == place {
			return value
		}
		return v
	}
}

// Models that cannot be right are refused in a sentence, with exit code 2 and
// without a file left; odd ones are converted, and what comes of them is fine.
func TestHostileModels(t *testing.T) {
	for _, c := range hostileModels {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			x := craft(t)
			c.change(x)
			x.write("model.gguf")
			for name, text := range map[string]string{"calib.txt": demomodel.Calibration(), "eval.txt": demomodel.Evaluation()} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if code, _, errs := runBesa("inspect", "model.gguf"); code != 0 {
				t.Errorf("inspect: exit %d, %s", code, errs)
			}
			code, _, errs := runBesa("convert", "--quiet", "--method", "wanda", "--joint-q4", "--calib", "calib.txt", "--calib-samples", "4", "--calib-len", "32", "model.gguf", "-o", "out.sparse.gguf")
			checkHostile(t, "convert", c.convert, code, errs)
			if c.convert == "" {
				if code, _, errs := runBesa("verify", "out.sparse.gguf"); code != 0 {
					t.Errorf("verify: exit %d, %s", code, errs)
				}
				if err := os.Remove("out.sparse.gguf"); err != nil {
					t.Error(err)
				}
			}
			code, _, errs = runBesa("eval", "ppl", "--engine", "go", "--ctx", "32", "--limit", "2", "--data", "eval.txt", "model.gguf")
			checkHostile(t, "eval", c.eval, code, errs)
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 3 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

func checkHostile(t *testing.T, command, want string, code int, stderr string) {
	t.Helper()
	switch {
	case want == "" && code != exitFine:
		t.Errorf("%s: exit %d, %s", command, code, stderr)
	case want != "" && (code != exitRefused || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1):
		t.Errorf("%s: exit %d, %q, want %q in one line", command, code, stderr, want)
	}
}

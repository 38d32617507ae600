package model

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/demomodel"
)

// rewrite writes the demo model with its metadata and tensor table changed;
// tensor data are zeros.
func rewrite(t *testing.T, change func(kvs []gguf.KV, tensors []gguf.Tensor) ([]gguf.KV, []gguf.Tensor)) string {
	t.Helper()
	src := demomodel.File(t)
	f, err := gguf.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kvs, tensors := change(slices.Clone(f.KVs()), slices.Clone(f.Tensors()))
	path := filepath.Join(t.TempDir(), "changed.gguf")
	for i := range tensors {
		row, err := tensors[i].Type.RowBytes(tensors[i].Cols())
		if err != nil {
			t.Fatal(err)
		}
		tensors[i].Bytes = row * tensors[i].Rows()
	}
	w, err := gguf.Create(path, kvs, tensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, x := range tensors {
		if err := w.WriteTensor(x.Name, make([]byte, x.Bytes)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// set replaces or adds a key.
func set(kvs []gguf.KV, key string, value any) []gguf.KV {
	kv := gguf.MustKV(key, value)
	if i := slices.IndexFunc(kvs, func(k gguf.KV) bool { return k.Key == key }); i >= 0 {
		kvs[i] = kv
		return kvs
	}
	return append(kvs, kv)
}

func drop(tensors []gguf.Tensor, name string) []gguf.Tensor {
	return slices.DeleteFunc(tensors, func(t gguf.Tensor) bool { return t.Name == name })
}

func TestOpenRefuses(t *testing.T) {
	type change = func([]gguf.KV, []gguf.Tensor) ([]gguf.KV, []gguf.Tensor)
	keys := func(key string, value any) change {
		return func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) { return set(k, key, value), x }
	}
	for name, tc := range map[string]struct {
		change      change
		want        string
		unsupported bool
	}{
		"other architecture": {keys("general.architecture", "bert"), `architecture "bert"; supported: llama, qwen2, qwen3`, true},
		"no heads":           {keys("llama.attention.head_count", uint32(0)), "llama.attention.head_count", false},
		"odd heads":          {keys("llama.attention.head_count", uint32(7)), "no multiple of 7 heads", false},
		"odd groups":         {keys("llama.attention.head_count_kv", uint32(3)), "no multiple of 3 key/value heads", false},
		"keys as array":      {keys("llama.block_count", []uint32{4}), "llama.block_count", false},
		"more blocks":        {keys("llama.block_count", uint32(5)), `tensor "blk.4.attn_q.weight" is missing`, false},
		"fewer blocks":       {keys("llama.block_count", uint32(3)), "lies outside the model's 3 blocks", true},
		"experts":            {keys("llama.expert_count", uint32(8)), "8 experts", true},
		"yarn":               {keys("llama.rope.scaling.type", "yarn"), `rope scaling "yarn"`, true},
		"other values":       {keys("llama.attention.value_length", uint32(16)), "values of 16 channels", true},
		"norm missing": {func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) {
			return k, drop(x, "blk.1.ffn_norm.weight")
		}, `tensor "blk.1.ffn_norm.weight" is missing`, false},
		"embedding missing": {func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) {
			return k, drop(x, "token_embd.weight")
		}, "token_embd.weight", false},
		"strange tensor": {func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) {
			return k, append(x, gguf.Tensor{Name: "blk.0.attn_output.bias", Type: gguf.F32, Shape: []uint64{256}})
		}, "attn_output.bias", true},
		"wrong shape": {func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) {
			i := slices.IndexFunc(x, func(t gguf.Tensor) bool { return t.Name == "blk.2.ffn_up.weight" })
			x[i].Shape = []uint64{256, 512}
			return k, x
		}, `"blk.2.ffn_up.weight" has shape [256 512], not [256 768]`, false},
		"type that besa cannot read": {func(k []gguf.KV, x []gguf.Tensor) ([]gguf.KV, []gguf.Tensor) {
			i := slices.IndexFunc(x, func(t gguf.Tensor) bool { return t.Name == "blk.0.attn_v.weight" })
			x[i].Type = gguf.IQ4_NL
			return k, x
		}, "is IQ4_NL", true},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Open(rewrite(t, tc.change))
			if err == nil {
				m.Close()
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnsupported) != tc.unsupported {
				t.Errorf("error %v, want %q (unsupported: %v)", err, tc.want, tc.unsupported)
			}
		})
	}
}

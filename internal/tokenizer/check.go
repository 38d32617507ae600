package tokenizer

import (
	"fmt"

	"besa/gguf"
)

// tokenArrays are the keys with an entry per token, and the element types that
// llama.cpp reads them as without a check of its own: four bytes each.
var tokenArrays = map[string][]gguf.ValueType{
	"tokenizer.ggml.tokens":     {gguf.String},
	"tokenizer.ggml.scores":     {gguf.Float32, gguf.Int32, gguf.Uint32},
	"tokenizer.ggml.token_type": {gguf.Int32, gguf.Uint32},
}

// CheckFile checks that the arrays of a file's vocabulary have the types and
// lengths that readers rely on, and that there is a token for each row of the
// embedding. A file without a vocabulary passes.
func CheckFile(f *gguf.File) error {
	tokens, ok := f.Lookup("tokenizer.ggml.tokens")
	if !ok {
		return nil
	}
	_, n, _ := tokens.Elem()
	for key, types := range tokenArrays {
		kv, ok := f.Lookup(key)
		if !ok {
			continue
		}
		t, count, ok := kv.Elem()
		if !ok {
			return fmt.Errorf("%w: %s is a %s, not an array", ErrMalformed, key, kv.Type)
		}
		fits := false
		for _, allowed := range types {
			fits = fits || t == allowed
		}
		if !fits {
			return fmt.Errorf("%w: %s is an array of %s, not of %s", ErrMalformed, key, t, types[0])
		}
		if count < n {
			return fmt.Errorf("%w: %s has %d entries for %d tokens", ErrMalformed, key, count, n)
		}
	}
	if x, ok := f.Tensor("token_embd.weight"); ok && x.Rows() != n {
		return fmt.Errorf("%w: %d tokens, but an embedding of %d rows", ErrMalformed, n, x.Rows())
	}
	return nil
}

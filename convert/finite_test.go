package convert

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/model"
)

// TestDamagedModels: a NaN or an infinity anywhere in the model, also in
// tensors that are only copied, stops a conversion before its work.
func TestDamagedModels(t *testing.T) {
	for name, says := range map[string]string{
		"blk.2.ffn_norm.weight": "column 3 is NaN",
		"output_norm.weight":    "column 3 is NaN",
		"token_embd.weight":     "row 1, column 96 is",
		"blk.1.ffn_up.weight":   "row 1, column 96 is",
	} {
		o := demo(t, nil)
		f, err := gguf.Open(o.Input)
		if err != nil {
			t.Fatal(err)
		}
		tensor, ok := f.Tensor(name)
		if !ok {
			t.Fatalf("no tensor %s", name)
		}
		at := f.DataOffset() + tensor.Offset
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(o.Input)
		if err != nil {
			t.Fatal(err)
		}
		switch tensor.Type {
		case gguf.F32:
			binary.LittleEndian.PutUint32(data[at+4*3:], math.Float32bits(float32(math.NaN())))
		case gguf.Q8_0: // the scale of block 3 of row 1
			blocks := tensor.Cols() / 32
			binary.LittleEndian.PutUint16(data[at+34*(blocks+3):], 0x7c00)
		default:
			t.Fatalf("%s is %s", name, tensor.Type)
		}
		if err := os.WriteFile(o.Input, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = Run(t.Context(), o)
		if !errors.Is(err, model.ErrNotFinite) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := DryRun(t.Context(), o); !errors.Is(err, model.ErrNotFinite) {
			t.Errorf("%s, dry run: error %v", name, err)
		}
		left, err := os.ReadDir(filepath.Dir(o.Input))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 2 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

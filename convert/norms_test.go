package convert

import (
	"bytes"
	"strings"
	"testing"

	"besa/gguf"
	"besa/sparsefmt"
)

// With --refine-norms the blocks' norms of the output are tuned float32 ones;
// every other tensor that is not pruned stays as it was.
func TestTunedNormsAreWritten(t *testing.T) {
	o := demo(t, func(o *Options) { o.Method.Refine.Norms, o.Method.Refine.Passes = true, 1 })
	run(t, o)
	out, err := sparsefmt.Open(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := gguf.Open(o.Input)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tuned := 0
	for _, now := range out.GGUF().Tensors() {
		then, ok := in.Tensor(now.Name)
		if !ok || then.Rows() > 1 && strings.HasPrefix(then.Name, "blk.") {
			continue // of the format, or pruned
		}
		same := now.Type == then.Type && bytes.Equal(out.GGUF().Data(now), in.Data(then))
		isNorm := strings.HasPrefix(then.Name, "blk.") && strings.HasSuffix(then.Name, "_norm.weight")
		switch {
		case isNorm && (same || now.Type != gguf.F32):
			t.Errorf("tensor %q: type %s, moved: %v", now.Name, now.Type, !same)
		case !isNorm && !same:
			t.Errorf("tensor %q has changed", now.Name)
		}
		if isNorm {
			tuned++
		}
	}
	if tuned != 8 { // two in each of four blocks
		t.Errorf("%d tensors of norms, not 8", tuned)
	}
}

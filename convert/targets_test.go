package convert

import (
	"errors"
	"testing"

	"besa/besa"
	"besa/internal/decoder"
)

func TestTargets(t *testing.T) {
	c := decoder.Config{Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16, Eps: 1e-5, RopeDim: 16, RopeBase: 1e4, RopeScale: 1}
	o := Options{Method: besa.DefaultOptions(), Targets: []Target{{"attn_*", 0.3}, {"attn_v", 0.1}, {"blk.1.ffn_down", 0.4}}}
	if err := o.checkTargets(c, 2); err != nil {
		t.Fatal(err)
	}
	want := [2]map[decoder.Linear]float64{
		{decoder.Q: 0.3, decoder.K: 0.3, decoder.V: 0.1, decoder.O: 0.3},
		{decoder.Q: 0.3, decoder.K: 0.3, decoder.V: 0.1, decoder.O: 0.3, decoder.Down: 0.4},
	}
	for b := range want {
		for l, got := range o.methodFor(b).Targets {
			s, set := want[b][decoder.Linear(l)]
			if got != (besa.Target{Set: set, Sparsity: s}) {
				t.Errorf("block %d %s: %+v", b, decoder.Linear(l), got)
			}
		}
	}
	for name, targets := range map[string][]Target{
		"no such layer":  {{"attn_x", 0.5}},
		"no such block":  {{"blk.2.attn_q", 0.5}},
		"bad pattern":    {{"[", 0.5}},
		"out of range":   {{"attn_q", 1}},
		"cannot be met":  {{"ffn_*", 0}},
		"one cannot be ": {{"blk.1.ffn_*", 0.95}},
	} {
		o.Targets = targets
		if err := o.checkTargets(c, 2); !errors.Is(err, besa.ErrOptions) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

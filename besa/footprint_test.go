package besa

import (
	"runtime"
	"testing"
)

// TestFootprint compares the estimate with what pruning a block allocates:
// nearly all of that lives until the end.
func TestFootprint(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has pools drop at random what they hold, so more is allocated")
	}
	for name, change := range map[string]func(*Options){
		"joint":       func(o *Options) { o.Grid, o.Group = GridSymmetric, 32 },
		"asymmetric":  func(o *Options) { o.Grid, o.Group = GridAsymmetric, 32 },
		"unquantised": func(o *Options) {},
		"wanda":       func(o *Options) { o.Method = MethodWanda },
		"sparsegpt":   func(o *Options) { o.Method = MethodSparseGPT },
		"refined":     func(o *Options) { o.Refine.Passes = 1 },
		"per layer":   func(o *Options) { o.LossGranularity = LossPerLayer },
		"per half":    func(o *Options) { o.LossGranularity = LossPerHalf },
	} {
		o := DefaultOptions()
		change(&o)
		job := randomJob(t, 3, 1)
		job.In, job.Ref = windows{1, 24, 64, job.In.(windows).data}, windows{1, 24, 64, job.Ref.(windows).data}
		job.Dense = windows{1, 24, 64, make([]float32, 24*64)}
		block := int64(4 * job.Engine.Parameters())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := PruneBlock(t.Context(), job, o); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		got := float64(block+int64(after.TotalAlloc-before.TotalAlloc)) / float64(Footprint(job.Engine.Config, job.Engine.Tokens, o))
		t.Logf("%s: %.2f of the estimate", name, got)
		most := 1.4
		if o.Method == MethodSparseGPT {
			most = 3 // each inverse leaves as much behind as it needs
		}
		if got < 0.7 || got > most {
			t.Errorf("%s: pruning a block takes %.2f times the estimate", name, got)
		}
	}
}

package enginebench

import (
	"errors"
	"math"
	"strings"
	"testing"

	"besa/internal/decoder"
)

// TestRun checks what every row must hold; figures depend on the machine.
func TestRun(t *testing.T) {
	begun := 0
	r, err := Run(t.Context(), Options{Threads: 2, tiny: true, Begin: func(string) { begun++ }})
	if err != nil {
		t.Fatal(err)
	}
	p := r.Peaks
	for name, v := range map[string]float64{"fp32": p.FP32, "fp32, one": p.FP32One, "read": p.Read, "copy": p.Copy, "read, one": p.ReadOne, "copy, one": p.CopyOne} {
		if !(v > 0) {
			t.Errorf("peak %s is %g", name, v)
		}
	}
	rows := map[string]int{}
	for _, row := range r.Rows {
		rows[row.Section]++
		if !(row.Rate > 0) || !(row.Seconds > 0) || row.Hint == "" || row.Unit == "" {
			t.Errorf("incomplete row %+v", row)
		}
		if row.Unit == "GFLOP/s" && !(row.Percent > 0) {
			t.Errorf("%s: %.1f %% of peak", row.Name, row.Percent)
		}
	}
	for _, s := range Sections {
		if rows[s] == 0 {
			t.Errorf("no rows in section %s", s)
		}
	}
	if begun < 4 || r.Threads != 2 {
		t.Errorf("begun %d sections with %d threads", begun, r.Threads)
	}
}

func TestRunRefuses(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"gpu"}}); err == nil || !strings.Contains(err.Error(), "gemm") {
		t.Errorf("unknown section: %v", err)
	}
	_, err := Run(t.Context(), Options{Only: []string{"step"}, Memory: 1 << 30})
	if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "--quick") {
		t.Errorf("a gibibyte for a 7B block: %v", err)
	}
}

// TestCounts: LLaMA-7B's block has 202,375,168 weights.
func TestCounts(t *testing.T) {
	if n := weights(llama7B.config); n != 202375168 {
		t.Errorf("%.0f weights", n)
	}
	c := decoder.Config{Hidden: 2, FFN: 3, Heads: 1, KVHeads: 1, HeadDim: 2}
	// 4 square matrices of 4, 3 of 6 weights; q, k and v need no input gradient.
	if f, b := forwardFLOPs(c, 5), backwardFLOPs(c, 5); f != 2*34*5 || b != 2*(34+22)*5 {
		t.Errorf("forward %g, backward %g", f, b)
	}
	if a := attentionFLOPs(c, 3, 2); a != 2*2*2*6 { // two products, 2 channels, 6 pairs of positions, 2 operations
		t.Errorf("attention %g", a)
	}
}

func TestRandomMatrix(t *testing.T) {
	m := randomMatrix(nil, 100, 1000, 0.5)
	var sum, squares float64
	for _, v := range m.Data {
		sum += float64(v)
		squares += float64(v) * float64(v)
	}
	n := float64(len(m.Data))
	if mean, dev := sum/n, math.Sqrt(squares/n); math.Abs(mean) > 0.01 || math.Abs(dev-0.5) > 0.01 {
		t.Errorf("mean %g, deviation %g", mean, dev)
	}
}

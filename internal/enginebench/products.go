package enginebench

import (
	"fmt"

	"besa/internal/kernel"
)

// products measures the three products that every linear layer needs: forward
// (inputs × weightsᵀ), the gradient of its inputs (gradient × weights) and that
// of its weights (gradientᵀ × inputs).
func (b *bench) products() error {
	s := b.large()
	h, f, n := s.config.Hidden, s.config.FFN, s.tokens
	for _, l := range []struct{ in, out int }{{h, h}, {h, f}, {f, h}} {
		x, y := randomMatrix(b.pool, n, l.in, 1), randomMatrix(b.pool, n, l.out, 1)
		w := randomMatrix(b.pool, l.out, l.in, 1)
		for _, p := range []struct {
			name, hint string
			run        func()
		}{
			{"forward", "outputs = inputs · weightsᵀ", func() { kernel.MulNT(b.pool, y, x, w, false) }},
			{"input gradient", "gradient of the inputs = that of the outputs · weights", func() { kernel.MulNN(b.pool, x, y, w, false) }},
			{"weight gradient", "gradient of the weights = that of the outputsᵀ · inputs", func() { kernel.MulTN(b.pool, w, y, x, false) }},
		} {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			p.run() // warm up
			t := best(3, p.run)
			flops := 2 * float64(n) * float64(l.in) * float64(l.out)
			b.add(Row{
				Section: "gemm", Name: fmt.Sprintf("%d tokens × %d → %d, %s", n, l.in, l.out, p.name), Precision: "fp32",
				Seconds: t, Rate: flops / t / 1e9, Unit: "GFLOP/s", Peak: peakFP32, Hint: p.hint,
			})
		}
	}
	return nil
}

func (b *bench) add(r Row) { b.report.Rows = append(b.report.Rows, r) }

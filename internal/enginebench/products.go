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
			form       kernel.Form
			c, a, b    kernel.Mat[float32]
		}{
			{"forward", "outputs = inputs · weightsᵀ", kernel.NT, y, x, w},
			{"input gradient", "gradient of the inputs = that of the outputs · weights", kernel.NN, x, y, w},
			{"weight gradient", "gradient of the weights = that of the outputsᵀ · inputs", kernel.TN, w, y, x},
		} {
			for _, precision := range precisions() {
				if err := b.ctx.Err(); err != nil {
					return err
				}
				run := func() { kernel.MatMul(b.pool, p.form, precision, p.c, p.a, p.b, false) }
				run() // warm up
				flops := 2 * float64(n) * float64(l.in) * float64(l.out)
				b.arithmetic(precision, "gemm", fmt.Sprintf("%d tokens × %d → %d, %s", n, l.in, l.out, p.name), flops, best(3, run), p.hint)
			}
		}
	}
	return nil
}

func (b *bench) add(r Row) { b.report.Rows = append(b.report.Rows, r) }

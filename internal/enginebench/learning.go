package enginebench

import (
	"fmt"

	"besa/besa"
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// bytesPerWeight is what one pass of the mask operator must move. Forward, it
// reads a weight and its rank and writes the masked weight; backward, it reads
// a weight, its gradient and its rank.
const bytesPerWeight = 10

// block measures BESA steps on a block of shape s, in the section of that
// name, and with masks the mask operator, which is part of them, by itself.
func (b *bench) block(s shape, section string, steps, masks bool) error {
	block := randomBlock(b.pool, s.config)
	engine, err := decoder.NewEngine[float32](s.config, s.tokens, b.pool)
	if err != nil {
		return err
	}
	x := randomMatrix(b.pool, s.tokens, s.config.Hidden, 1)
	if steps {
		if err := b.denseForward(s, section, engine, block, x); err != nil {
			return err
		}
	}
	for _, grid := range []besa.Grid{besa.GridNone, besa.GridSymmetric} {
		engine.Precision = kernel.FP32
		ref := window{kernel.NewMat[float32](s.tokens, s.config.Hidden)}
		l, err := besa.NewLearning(b.ctx, besa.Job{Engine: engine, Block: block, In: window{x}, Ref: ref}, learningOptions(grid))
		if err != nil {
			return err
		}
		for _, engine.Precision = range precisions() {
			if err := b.step(s, section, grid, l, engine.Precision, steps); err != nil {
				return err
			}
		}
		if masks {
			b.masks(s, grid, l)
		}
	}
	return nil
}

func learningOptions(grid besa.Grid) besa.Options {
	o := besa.DefaultOptions()
	o.Grid = grid
	return o
}

func (b *bench) denseForward(s shape, section string, e *decoder.Engine[float32], block *decoder.Block[float32], x kernel.Mat[float32]) error {
	acts := e.NewActivations()
	var err error
	forward := func() { err = e.Forward(block, x, acts) }
	for _, e.Precision = range precisions() {
		if forward(); err != nil { // warm up
			return err
		}
		flops := forwardFLOPs(s.config, s.tokens) + attentionFLOPs(s.config, s.tokens, 2)
		b.arithmetic(e.Precision, section, s.text()+", dense forward", flops, best(s.repeat(), forward), "the reference output that a step compares with")
	}
	return err
}

// step takes single steps, the first of which warms up and gives the mask
// operator gradients to work on.
func (b *bench) step(s shape, section string, grid besa.Grid, l *besa.Learning, p kernel.Precision, report bool) error {
	_, err := l.Step(0)
	if err != nil || !report {
		return err
	}
	t := best(s.repeat(), func() {
		if err == nil && b.ctx.Err() == nil {
			_, err = l.Step(0)
		}
	})
	if err == nil {
		err = b.ctx.Err()
	}
	flops := forwardFLOPs(s.config, s.tokens) + backwardFLOPs(s.config, s.tokens) + attentionFLOPs(s.config, s.tokens, 2+5)
	b.arithmetic(p, section, s.text()+", BESA step"+gridText(grid), flops, t,
		"masks, forward, backward, optimiser on one window; counts the products, attention's included")
	return err
}

func gridText(g besa.Grid) string {
	if g == besa.GridNone {
		return ""
	}
	return ", 4-bit"
}

// masks measures the mask operator on the whole block.
func (b *bench) masks(s shape, grid besa.Grid, l *besa.Learning) {
	n := weights(s.config)
	forward, backward := best(3, l.Masks), best(3, l.MaskGradients)
	for _, m := range []struct {
		name    string
		seconds float64
		passes  float64
		hint    string
	}{
		{"masks", forward, 1, "reads weights and ranks, writes masked weights: 10 bytes a weight"},
		{"gradients", backward, 1, "reads weights, their gradients and ranks: 10 bytes a weight"},
		{"both", forward + backward, 2, "all that a step spends on masks and allocation"},
	} {
		b.add(Row{
			Section: "mask", Name: fmt.Sprintf("%s%s, %s", s.name, gridText(grid), m.name), Precision: "fp32",
			Seconds: m.seconds, Rate: m.passes * bytesPerWeight * n / m.seconds / 1e9, Unit: "GB/s", Peak: peakRead, Hint: m.hint,
		})
	}
}

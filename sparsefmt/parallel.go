package sparsefmt

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// parallel calls f(0) … f(n-1) on all processors and returns the first error.
// Faults of mapped files that f reads are errors.
func parallel(n int, f func(i int) error) error {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, n)
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				errs[i] = gguf.GuardFault(func() error { return f(i) })
				if errs[i] != nil {
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// stepBytes is about how much is expanded at once where tiles are small.
const stepBytes = 256 << 10

// eachStep expands all rows on all processors and calls f with their bytes,
// some rows at a time and in order. Memory: a few steps for every processor.
func eachStep(ctx context.Context, r RowExpander, f func(expanded []byte) error) error {
	size, rows := r.RowBytes(), r.RowStep()
	rows *= max(1, stepBytes/(rows*size))
	rows = min(rows, r.Rows())
	steps := ceilDiv(r.Rows(), rows)
	workers := min(steps, runtime.GOMAXPROCS(0))
	free := make(chan []byte, workers+1)
	for range cap(free) {
		free <- make([]byte, rows*size)
	}
	type result struct {
		expanded []byte
		err      error
	}
	pending := make(chan chan result, workers+1)
	var stopped atomic.Bool
	go func() {
		defer close(pending)
		for r0 := 0; r0 < r.Rows() && !stopped.Load(); r0 += rows {
			done, buf := make(chan result, 1), <-free
			pending <- done
			go func() {
				r1 := min(r0+rows, r.Rows())
				buf = buf[:(r1-r0)*size]
				done <- result{buf, gguf.GuardFault(func() error { return r.ExpandRows(r0, r1, buf) })}
			}()
		}
	}()
	var first error
	for done := range pending { // to the end: what was begun reads the file
		x := <-done
		if first == nil {
			if first = x.err; first == nil {
				first = ctx.Err()
			}
		}
		if first == nil {
			first = f(x.expanded)
		}
		stopped.Store(first != nil)
		free <- x.expanded
	}
	return first
}

// expandedSum is the XXH3-64 of the whole expanded tensor.
func expandedSum(ctx context.Context, r RowExpander) (uint64, error) {
	h := xxh3.New()
	err := eachStep(ctx, r, func(expanded []byte) error {
		_, _ = h.Write(expanded) // a hash never fails
		return nil
	})
	return h.Sum64(), err
}

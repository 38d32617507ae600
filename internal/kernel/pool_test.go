package kernel

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestPoolChunks(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 3, 4} { // 0: a nil pool
		var p *Pool
		if threads > 0 {
			p = NewPool(threads)
			if p.Threads() != threads {
				t.Errorf("%d threads, not %d", p.Threads(), threads)
			}
		}
		for _, n := range []int{-1, 0, 1, 2, 7, 100} {
			for _, grain := range []int{0, 1, 3, 7, 200} {
				var mu sync.Mutex
				var got [][2]int
				p.For(n, grain, func(lo, hi int) {
					mu.Lock()
					got = append(got, [2]int{lo, hi})
					mu.Unlock()
				})
				slices.SortFunc(got, func(a, b [2]int) int { return a[0] - b[0] })
				var want [][2]int
				for lo := 0; lo < n; lo += max(grain, 1) {
					want = append(want, [2]int{lo, min(lo+max(grain, 1), n)})
				}
				if !slices.Equal(got, want) {
					t.Errorf("threads %d, For(%d, %d): chunks %v, want %v", threads, n, grain, got, want)
				}
			}
		}
		p.Close()
		p.Close() // twice is fine, and For still works
		ran := 0
		p.For(3, 1, func(lo, hi int) { ran++ })
		if ran != 3 {
			t.Errorf("threads %d: %d chunks on a closed pool", threads, ran)
		}
	}
}

// TestPoolManyLoops goes through thousands of loops, with pauses that let the
// workers fall asleep now and then.
func TestPoolManyLoops(t *testing.T) {
	for threads := 2; threads <= 4; threads++ {
		p := NewPool(threads)
		for i := range 5000 {
			var sum atomic.Int64
			n := i%50 + 1
			p.For(n, 1, func(lo, hi int) { sum.Add(int64(lo + 1)) })
			if want := int64(n * (n + 1) / 2); sum.Load() != want {
				t.Fatalf("loop %d: sum %d, want %d", i, sum.Load(), want)
			}
			if i%500 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		p.Close()
	}
}

func TestPoolNestedAndConcurrent(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	var count atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 100 {
				p.For(5, 1, func(lo, hi int) {
					p.For(4, 2, func(lo, hi int) {
						p.For(hi-lo, 1, func(lo, hi int) { count.Add(1) })
					})
				})
			}
		})
	}
	callers.Wait()
	if got := count.Load(); got != 4*100*5*4 {
		t.Errorf("%d calls, want %d", got, 4*100*5*4)
	}
}

func TestPoolPanics(t *testing.T) {
	cause := errors.New("cause")
	for threads := 1; threads <= 3; threads++ {
		p := NewPool(threads)
		for at := range 8 {
			func() {
				defer func() {
					v := recover()
					if w, ok := v.(*WorkerPanic); ok {
						if len(w.Stack) == 0 || w.Error() == "" || !errors.Is(w, cause) {
							t.Errorf("threads %d: panic without its origin: %v", threads, w)
						}
						v = w.Value
					} else if threads > 1 {
						t.Errorf("threads %d: panic with %T", threads, v)
					}
					if v != cause {
						t.Errorf("threads %d: panic with %v", threads, v)
					}
				}()
				p.For(8, 1, func(lo, hi int) {
					if lo >= at {
						panic(cause)
					}
				})
			}()
			// The pool is as good as new.
			var ran atomic.Int64
			p.For(100, 1, func(lo, hi int) { ran.Add(1) })
			if ran.Load() != 100 {
				t.Fatalf("after a panic: %d of 100 chunks", ran.Load())
			}
		}
		p.Close()
	}
}

// BenchmarkPoolFor measures what sharing out costs: back to back, and when
// the workers have gone to sleep in between.
func BenchmarkPoolFor(b *testing.B) {
	for _, threads := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := NewPool(threads)
			defer p.Close()
			for b.Loop() {
				p.For(2*threads, 1, func(lo, hi int) {})
			}
		})
	}
	b.Run("asleep", func(b *testing.B) {
		p := NewPool(2)
		defer p.Close()
		var total time.Duration
		for b.Loop() {
			time.Sleep(300 * time.Microsecond)
			start := time.Now()
			p.For(4, 1, func(lo, hi int) {})
			total += time.Since(start)
		}
		b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/For")
	})
}

// A pool that has nothing to do keeps nothing of what it did last.
func TestPoolForgets(t *testing.T) {
	p := NewPool(2)
	defer p.Close()
	freed := make(chan struct{})
	func() {
		large := new([1 << 20]byte)
		runtime.AddCleanup(large, func(struct{}) { close(freed) }, struct{}{})
		for range 100 {
			p.For(64, 1, func(lo, _ int) { large[lo]++ })
		}
	}()
	for range 50 {
		runtime.GC()
		select {
		case <-freed:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Error("the pool holds on to its last loop")
}

package kernel

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Pool shares loops out to a fixed number of goroutines. A nil *Pool runs
// everything on the caller's.
type Pool struct {
	threads int
	busy    atomic.Bool         // a For is under way: others run inline
	jobs    uint64              // loops so far; only who holds busy touches it
	job     atomic.Pointer[job] // the loop to help with, or nil
	wake    chan struct{}       // a token for each worker to rouse
	asleep  atomic.Int32        // workers that wait for a token
	closed  atomic.Bool
	done    sync.WaitGroup
}

// job is one For in progress. Workers that come late find next >= chunks and leave.
type job struct {
	number   uint64 // from 1; workers remember it, and not the job, so that what f holds can be freed
	f        func(lo, hi int)
	n, grain int
	chunks   int64
	next     atomic.Int64  // the next chunk to hand out
	finished atomic.Int64  // chunks that have been run
	waiting  atomic.Bool   // the caller sleeps on all
	all      chan struct{} // one token when every chunk has been run
	failure  atomic.Pointer[WorkerPanic]
}

// WorkerPanic is the value that For panics with when a chunk panicked on a
// pool of several threads: the stack is that of the chunk.
type WorkerPanic struct {
	Value any
	Stack []byte
}

func (p *WorkerPanic) Error() string {
	return fmt.Sprintf("%v\n\nin a pool's chunk:\n%s", p.Value, p.Stack)
}

// Unwrap returns the value of the panic when it is an error.
func (p *WorkerPanic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// How long to look for work, or for the end of it, before going to sleep.
// Waking a sleeper costs 5 to 50 µs, about what the serial code between two
// loops takes, so a short watch pays.
const spins = 2000

// NewPool returns a pool of that many threads, the caller's included; fewer
// than one means one per CPU. Close ends it.
func NewPool(threads int) *Pool {
	if threads < 1 {
		threads = runtime.GOMAXPROCS(0)
	}
	p := &Pool{threads: threads, wake: make(chan struct{}, threads)}
	for range threads - 1 {
		p.done.Add(1)
		go p.work()
	}
	return p
}

// Threads returns the number of threads, 1 for a nil pool.
func (p *Pool) Threads() int {
	if p == nil {
		return 1
	}
	return p.threads
}

// Close ends the pool's goroutines. No For may be under way; later ones run inline.
func (p *Pool) Close() {
	if p == nil || p.closed.Swap(true) {
		return
	}
	close(p.wake)
	p.done.Wait()
}

// For calls f for [0, grain), [grain, 2·grain), … up to n, on several threads
// and in any order, and returns when all calls have. The chunks depend on n
// and grain only, so results kept per chunk do not depend on the number of
// threads. A For inside a chunk, or beside another one on the same pool, runs
// inline. When a chunk panics, the chunks not yet begun are dropped and For
// panics: with the same value inline, else with a *WorkerPanic.
func (p *Pool) For(n, grain int, f func(lo, hi int)) {
	if n <= 0 {
		return
	}
	grain = max(grain, 1)
	chunks := (n-1)/grain + 1
	if p == nil || p.threads == 1 || chunks == 1 || p.closed.Load() || !p.busy.CompareAndSwap(false, true) {
		for lo := 0; lo < n; lo += grain {
			f(lo, min(lo+grain, n))
		}
		return
	}
	p.jobs++
	j := &job{number: p.jobs, f: f, n: n, grain: grain, chunks: int64(chunks), all: make(chan struct{}, 1)}
	p.job.Store(j)
	for range min(int(p.asleep.Load()), chunks-1) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	j.run()
	j.wait()
	p.job.Store(nil)
	p.busy.Store(false)
	if w := j.failure.Load(); w != nil {
		panic(w)
	}
}

// work is the life of a worker: watch for a job, help, sleep when none comes.
func (p *Pool) work() {
	defer p.done.Done()
	var last uint64
	for {
		if j := p.watch(last); j != nil {
			j.run()
			last = j.number
			continue
		}
		p.asleep.Add(1)
		// A job published before the line above did not see this sleeper.
		if j := p.job.Load(); j != nil && j.number != last {
			p.asleep.Add(-1)
			continue
		}
		_, ok := <-p.wake
		p.asleep.Add(-1)
		if !ok {
			return
		}
	}
}

// watch looks for a job other than the last for a while.
func (p *Pool) watch(last uint64) *job {
	for range spins {
		if j := p.job.Load(); j != nil && j.number != last {
			return j
		}
		pause()
	}
	return nil
}

// run takes chunks until none is left.
func (j *job) run() {
	for {
		i := j.next.Add(1) - 1
		if i >= j.chunks {
			return
		}
		j.chunk(int(i))
		if j.finished.Add(1) == j.chunks && j.waiting.Load() {
			j.all <- struct{}{}
		}
	}
}

func (j *job) chunk(i int) {
	defer func() {
		if v := recover(); v != nil {
			j.failure.CompareAndSwap(nil, &WorkerPanic{Value: v, Stack: debug.Stack()})
		}
	}()
	if j.failure.Load() != nil {
		return
	}
	lo := i * j.grain
	j.f(lo, min(lo+j.grain, j.n))
}

// wait returns when every chunk has been run.
func (j *job) wait() {
	for range spins {
		if j.finished.Load() == j.chunks {
			return
		}
		pause()
	}
	j.waiting.Store(true)
	// Whoever finishes the last chunk sends unless it looked before the line
	// above; then finished is already complete here.
	if j.finished.Load() == j.chunks {
		return
	}
	<-j.all
}

package kernel

import "sync"

// Sizes, in elements unless said otherwise, of what should stay in which
// cache, and of what is too little to share out. Measured on Zen 5 (48 KiB,
// 1 MiB and a share of 32 MiB); other x86-64 servers have about as much. None
// is critical: half or twice as much changes the speed by a per cent or two.
const (
	l2Block   = 80 << 10 // a block of A, and one of B: together two thirds of an L2 of 1 MiB
	l3Slab    = 1 << 20  // a slab of A: a part of L3, which is shared
	minShared = 2 << 20  // products (m·n·k) below this stay on one thread: about 15 µs
	packTiles = 8        // tiles' rows of A that one chunk of the pool packs
)

// plan chooses the block sizes. The results do not depend on them but for kc,
// which depends on k alone.
func (g *product[T]) plan(threads int) {
	mr, nr := g.kernel.mr, g.kernel.nr
	g.kc = min(g.k, roundUp(ceilDiv(g.k, ceilDiv(g.k, g.kernel.kc)), 16))
	// An odd number of cache lines between rows spreads them over all sets.
	g.lead = roundUp(g.kc, 32) + 16
	g.slabK = max(l3Slab/g.m/g.kc, 1) * g.kc
	g.slabM = roundUp(min(g.m, max(l3Slab/g.kc, mr)), mr)
	g.mc = max(l2Block/g.kc/mr, 1) * mr

	g.cols = panelsPerBlock(ceilDiv(g.n, nr), max(l2Block/(g.kc*nr), 1), threads) * nr
	g.rows = roundUp(ceilDiv(g.slabM, rowBlocks(ceilDiv(g.n, g.cols), g.slabM/mr, threads)), mr)
	g.pack = g.worthPacking()
}

// panelsPerBlock returns how many panels of B, at most widest, a block of C
// spans: what balances the threads, and of such the most, as each block reads A once.
func panelsPerBlock(panels, widest, threads int) int {
	best, bestTime := 1, 0
	for width := 1; width <= min(widest, panels); width++ {
		const reading = 16 // A's reading costs a 16th of a panel
		rounds := ceilDiv(ceilDiv(panels, width), threads)
		time := rounds * (reading*width + 1)
		if bestTime == 0 || time < bestTime {
			best, bestTime = width, time
		}
	}
	return best
}

// rowBlocks returns into how many parts to cut C's tiles of rows when its columns
// make that many blocks: as many as balance the threads, given that every part
// packs B's columns again, which costs about as much as computing one tile of rows.
func rowBlocks(columnBlocks, tiles, threads int) int {
	best, bestTime := 1, 0
	for parts := 1; parts <= min(tiles, 4*threads); parts++ {
		rounds := ceilDiv(parts*columnBlocks, threads)
		time := rounds * (ceilDiv(tiles, parts) + 1)
		if bestTime == 0 || time < bestTime {
			best, bestTime = parts, time
		}
	}
	return best
}

// worthPacking tells whether A is copied before use, which costs a few per
// cent of the time, or read where it is. It is copied when rows of a tile (or, of
// columns, the steps along k) lie so that they fight for the same sets of a
// cache, or when a tile takes a bit of each of more pages than the CPU keeps track of.
func (g *product[T]) worthPacking() bool {
	const (
		pageful = 1024 // elements: the sets of a first-level cache repeat with every page
		tooWide = 1 << 20
	)
	if g.kernel.per > 1 {
		return true // words are made by packing
	}
	if g.n < 4*g.kernel.nr {
		return false
	}
	if g.a.inner == 1 {
		return g.a.outer%pageful == 0
	}
	return g.a.inner%pageful == 0 || g.m*g.k > tooWide
}

// packedSize is the number of elements that a packed slab takes.
func (g *product[T]) packedSize() int {
	steps := ceilDiv(min(g.slabK, g.k), g.kc)
	if g.a.inner == 1 {
		return steps * g.slabM * g.lead
	}
	return steps * g.slabM * g.kc
}

// buffers keeps the memory of packed operands between products.
type buffers[T Float] struct{ a, b scratch[T] }

var (
	buffers32 buffers[float32]
	buffers64 buffers[float64]
)

// scratch hands out slices that are used again, starting at a cache line.
type scratch[T Float] struct{ pool sync.Pool }

func (s *scratch[T]) get(n int) *[]T {
	if b, _ := s.pool.Get().(*[]T); b != nil && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := alignedSlice[T](n)
	return &b
}

func (s *scratch[T]) put(b *[]T) { s.pool.Put(b) }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
func roundUp(a, b int) int { return ceilDiv(a, b) * b }

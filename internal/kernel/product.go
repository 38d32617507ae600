package kernel

// side is an operand as the product sees it: element (i, p), i along the
// output and p along the sum, is data[i*outer+p*inner]. One of the two
// distances is 1.
type side[T Float] struct {
	data         []T
	outer, inner int
}

// newSide views a matrix whose rows run along the sum or, transposed, along the output.
func newSide[T Float](data []T, stride int, transposed bool) side[T] {
	if transposed {
		return side[T]{data, 1, stride}
	}
	return side[T]{data, stride, 1}
}

// product is one C = A·B in progress. Its loops, from the outside in:
//
//	slabs of A, so that it stays in L3 while B passes by  (one after the other)
//	  blocks of C, rows×cols, shared out to the pool
//	    steps of kc along k: the block's part of B packed (L2)
//	      mc rows of A                                    (L2)
//	        panels of nr columns of B                     (one in L1)
//	          tiles of mr rows                            (registers)
//
// An element of C is the sum, over steps of kc, of sums formed in a register:
// the same operations in the same order wherever C is cut into blocks.
type product[T Float] struct {
	kernel     *microKernel[T]
	buffers    *buffers[T]
	m, n       int
	length     int // of the sum, in values
	k          int // of the sum, in words of the kernel's, as are all steps along it
	c          []T
	ldc        int
	a, b       side[T]
	prepacked  *Packed // B, where it is laid out already
	accumulate bool

	kc           int  // step along the sum
	slabK, slabM int  // k per slab, a multiple of kc, and rows, a multiple of mr
	rows, cols   int  // a block of C
	mc           int  // rows of A at a time within a block
	pack         bool // A is copied before use
	packed       []T  // copy of A's present slab
	lead         int  // distance of the rows in packed, when A is stored by rows
}

func (g *product[T]) run(p *Pool) {
	g.k = ceilDiv(g.length, g.kernel.per)
	if g.m*g.n*g.k < minShared {
		p = nil
	}
	g.plan(p.Threads())
	g.compute(p)
}

// compute carries out the plan.
func (g *product[T]) compute(p *Pool) {
	if g.pack {
		buf := g.buffers.a.get(g.packedSize())
		g.packed = *buf
		defer g.buffers.a.put(buf)
	}
	for i0 := 0; i0 < g.m; i0 += g.slabM {
		for k0 := 0; k0 < g.k; k0 += g.slabK {
			s := slab{i0, min(i0+g.slabM, g.m), k0, min(k0+g.slabK, g.k)}
			if g.pack {
				g.packA(p, s)
			}
			g.blocks(p, s)
		}
	}
}

// slab is a part of A: rows i0 to i1, steps k0 to k1 along the sum.
type slab struct{ i0, i1, k0, k1 int }

// blocks adds to all of C what one slab contributes.
func (g *product[T]) blocks(p *Pool, s slab) {
	down, across := ceilDiv(s.i1-s.i0, g.rows), ceilDiv(g.n, g.cols)
	if p == nil {
		// Without a closure: small products are many, and shall not allocate.
		for i := range down * across {
			g.block(s, i%down, i/down)
		}
		return
	}
	p.For(down*across, 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g.block(s, i%down, i/down)
		}
	})
}

// block computes one slab's part of block (bi, bj) of its rows of C.
func (g *product[T]) block(s slab, bi, bj int) {
	i0, j0 := s.i0+bi*g.rows, bj*g.cols
	i1, j1 := min(i0+g.rows, s.i1), min(j0+g.cols, g.n)
	if g.prepacked != nil {
		for p0 := s.k0; p0 < s.k1; p0 += g.kc {
			kl := min(g.kc, s.k1-p0)
			panels, _ := any(g.prepacked.panels(j0, p0, kl)).([]T)
			g.strips(s, i0, i1, j0, j1, p0, kl, panels)
		}
		return
	}
	buf := g.buffers.b.get(g.kc * roundUp(j1-j0, g.kernel.nr))
	for p0 := s.k0; p0 < s.k1; p0 += g.kc {
		kl := min(g.kc, s.k1-p0)
		g.packB(*buf, j0, j1, p0, kl)
		g.strips(s, i0, i1, j0, j1, p0, kl, *buf)
	}
	g.buffers.b.put(buf)
}

// strips computes a block's part for one step along k, whose panels of B are b.
func (g *product[T]) strips(s slab, i0, i1, j0, j1, p0, kl int, b []T) {
	for i := i0; i < i1; i += g.mc {
		g.strip(s, i, min(i+g.mc, i1), j0, j1, p0, kl, b)
	}
}

// strip computes rows i0 to i1 and columns j0 to j1 for one step along k; b
// holds their packed panels.
func (g *product[T]) strip(s slab, i0, i1, j0, j1, p0, kl int, b []T) {
	mr, nr := g.kernel.mr, g.kernel.nr
	accumulate := g.accumulate || p0 > 0
	nextStep := 0
	switch {
	case !g.pack:
	case g.a.inner == 1:
		nextStep = ceilDiv(mr*g.lead, kl)
	default:
		nextStep = mr
	}
	for j := j0; j < j1; j += nr {
		w := min(nr, j1-j)
		panel := b[(j-j0)*kl : (j-j0+nr)*kl]
		a, rowA, colA := g.tileOfA(s, i0, p0, kl)
		for i := i0; i < i1; i += mr {
			next := a
			if i+mr < s.i1 {
				next, _, _ = g.tileOfA(s, i+mr, p0, kl)
			}
			g.kernel.tile(min(mr, i1-i), w, kl, a, rowA, colA, panel, g.c[i*g.ldc+j:], g.ldc, accumulate, next, nextStep)
			a = next
		}
	}
}

// values returns where along the sum word p0 begins and how many values kl words hold.
func (g *product[T]) values(p0, kl int) (at, n int) {
	at = p0 * g.kernel.per
	return at, min(kl*g.kernel.per, g.length-at)
}

// packB lays out columns j0 to j1 of B in panels, for kl steps from p0 on.
func (g *product[T]) packB(dst []T, j0, j1, p0, kl int) {
	nr := g.kernel.nr
	at, n := g.values(p0, kl)
	src := g.b.data[j0*g.b.outer+at*g.b.inner:]
	if g.b.outer == 1 {
		g.kernel.pack(dst, nr, nr*kl, src, g.b.inner, n, j1-j0)
		return
	}
	for j := 0; j < j1-j0; j += nr {
		g.kernel.packT(dst[j*kl:], src[j*g.b.outer:], g.b.outer, n, min(nr, j1-j0-j))
	}
}

// packA copies a slab. Stored by rows it stays so, at a distance that suits the
// caches; stored by columns it becomes panels of mr rows.
func (g *product[T]) packA(p *Pool, s slab) {
	mr := g.kernel.mr
	p.For(ceilDiv(s.i1-s.i0, mr), packTiles, func(lo, hi int) {
		i0, i1 := s.i0+lo*mr, min(s.i0+hi*mr, s.i1)
		for p0 := s.k0; p0 < s.k1; p0 += g.kc {
			kl := min(g.kc, s.k1-p0)
			dst, _, _ := g.tileOfA(s, i0, p0, kl)
			at, n := g.values(p0, kl)
			src := g.a.data[i0*g.a.outer+at*g.a.inner:]
			if g.a.inner == 1 {
				g.kernel.packRows(dst, g.lead, src, g.a.outer, i1-i0, n)
			} else {
				g.kernel.pack(dst, mr, mr*kl, src, g.a.inner, n, i1-i0)
			}
		}
	})
}

// tileOfA returns the operand of the tile at row i for kl steps from p0 on,
// and the distances of its rows and columns.
func (g *product[T]) tileOfA(s slab, i, p0, kl int) (a []T, rowA, colA int) {
	switch {
	case !g.pack:
		return g.a.data[i*g.a.outer+p0*g.a.inner:], g.a.outer, g.a.inner
	case g.a.inner == 1:
		return g.packed[((p0-s.k0)/g.kc*(s.i1-s.i0)+i-s.i0)*g.lead:], g.lead, 1
	default:
		return g.packed[(p0-s.k0)*roundUp(s.i1-s.i0, g.kernel.mr)+(i-s.i0)*kl:], 1, g.kernel.mr
	}
}

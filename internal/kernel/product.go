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
//	slabs of k, so that the copy of A stays small         (one after the other)
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
	m, n, k    int
	c          []T
	ldc        int
	a, b       side[T]
	accumulate bool

	kc, slab   int  // step along k; k per slab, a multiple of kc
	rows, cols int  // a block of C
	mc         int  // rows of A at a time within a block
	pack       bool // A is copied before use
	packed     []T  // copy of A's present slab
	lead       int  // distance of the rows in packed, when A is stored by rows
}

func (g *product[T]) run(p *Pool) {
	if g.m*g.n*g.k < minShared {
		p = nil
	}
	g.plan(p.Threads())
	g.compute(p)
}

// compute carries out the plan.
func (g *product[T]) compute(p *Pool) {
	if !g.pack {
		g.eachBlock(p, 0, g.k)
		return
	}
	buf := g.buffers.a.get(g.packedSize())
	g.packed = *buf
	for k0 := 0; k0 < g.k; k0 += g.slab {
		k1 := min(k0+g.slab, g.k)
		g.packA(p, k0, k1)
		g.eachBlock(p, k0, k1)
	}
	g.buffers.a.put(buf)
}

// eachBlock computes all of C for one slab.
func (g *product[T]) eachBlock(p *Pool, k0, k1 int) {
	down := ceilDiv(g.m, g.rows)
	across := ceilDiv(g.n, g.cols)
	if p == nil {
		// Without a closure: small products are many, and shall not allocate.
		for i := range down * across {
			g.block(i%down, i/down, k0, k1)
		}
		return
	}
	p.For(down*across, 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g.block(i%down, i/down, k0, k1)
		}
	})
}

// block computes block (bi, bj) of C for one slab.
func (g *product[T]) block(bi, bj, k0, k1 int) {
	i0, j0 := bi*g.rows, bj*g.cols
	i1, j1 := min(i0+g.rows, g.m), min(j0+g.cols, g.n)
	nr := g.kernel.nr
	buf := g.buffers.b.get(g.kc * ceilDiv(j1-j0, nr) * nr)
	b := *buf
	for p0 := k0; p0 < k1; p0 += g.kc {
		kl := min(g.kc, k1-p0)
		for j := j0; j < j1; j += nr {
			g.packPanel(b[(j-j0)*kl:], j, min(nr, j1-j), p0, kl)
		}
		for i := i0; i < i1; i += g.mc {
			g.strip(i, min(i+g.mc, i1), j0, j1, p0, kl, p0-k0, b)
		}
	}
	g.buffers.b.put(buf)
}

// strip computes rows i0 to i1 of a block for one step along k; b holds the
// block's packed panels, at is the step's place in the slab.
func (g *product[T]) strip(i0, i1, j0, j1, p0, kl, at int, b []T) {
	mr, nr := g.kernel.mr, g.kernel.nr
	accumulate := g.accumulate || p0 > 0
	for j := j0; j < j1; j += nr {
		w := min(nr, j1-j)
		panel := b[(j-j0)*kl : (j-j0+nr)*kl]
		for i := i0; i < i1; i += mr {
			a, rowA, colA := g.tileOfA(i, p0, kl, at)
			g.kernel.tile(min(mr, i1-i), w, kl, a, rowA, colA, panel, g.c[i*g.ldc+j:], g.ldc, accumulate)
		}
	}
}

// packPanel lays out w ≤ nr columns of B from column j on, for kl steps from p0 on.
func (g *product[T]) packPanel(dst []T, j, w, p0, kl int) {
	src := g.b.data[j*g.b.outer+p0*g.b.inner:]
	if g.b.outer == 1 {
		g.kernel.pack(dst, g.kernel.nr, src, g.b.inner, kl, w)
	} else {
		g.kernel.packT(dst, g.kernel.nr, src, g.b.outer, kl, w)
	}
}

// packA copies A's slab [k0, k1). Stored by rows it stays so, at a distance
// that suits the caches; stored by columns it becomes panels of mr rows.
func (g *product[T]) packA(p *Pool, k0, k1 int) {
	mr := g.kernel.mr
	p.For(ceilDiv(g.m, mr), ceilDiv(minPacked, mr*(k1-k0)), func(lo, hi int) {
		for i := lo * mr; i < min(hi*mr, g.m); i += mr {
			w := min(mr, g.m-i)
			for p0 := k0; p0 < k1; p0 += g.kc {
				kl := min(g.kc, k1-p0)
				dst, lead, _ := g.tileOfA(i, p0, kl, p0-k0)
				src := g.a.data[i*g.a.outer+p0*g.a.inner:]
				if g.a.inner == 1 {
					g.kernel.pack(dst, lead, src, g.a.outer, w, kl)
				} else {
					g.kernel.pack(dst, mr, src, g.a.inner, kl, w)
				}
			}
		}
	})
}

// tileOfA returns the operand of the tile at row i, a multiple of mr, for kl
// steps from p0 on, and the distances of its rows and columns; at is the
// step's place in the slab.
func (g *product[T]) tileOfA(i, p0, kl, at int) (a []T, rowA, colA int) {
	switch {
	case !g.pack:
		return g.a.data[i*g.a.outer+p0*g.a.inner:], g.a.outer, g.a.inner
	case g.a.inner == 1:
		return g.packed[at/g.kc*g.m*g.lead+i*g.lead:], g.lead, 1
	default:
		return g.packed[at*roundUp(g.m, g.kernel.mr)+i*kl:], 1, g.kernel.mr
	}
}

package besa

import (
	"math"

	"besa/internal/kernel"
)

// param is a tensor that an optimiser moves: values and their gradient.
type param struct {
	value, grad []float32
}

// chunk is the unit of parallel work in the optimisers; sums are taken per
// chunk and then in order, so that they do not depend on the thread count.
const chunk = 1 << 13

func chunks(n int) int { return (n + chunk - 1) / chunk }

// forChunks calls f for every chunk of a vector of length n, in parallel.
func forChunks(p *kernel.Pool, n int, f func(index, lo, hi int)) {
	p.For(chunks(n), 1, func(lo, hi int) {
		for c := lo; c < hi; c++ {
			f(c, c*chunk, min((c+1)*chunk, n))
		}
	})
}

// prodigy is Prodigy (Mishchenko and Defazio, 2023) with learning rate 1 and
// without bias correction: an Adam whose step size d is estimated from how far
// the parameters have moved along the gradients.
type prodigy struct {
	pool   *kernel.Pool
	params []param
	coef   float64 // multiplies the estimate of d

	d, dMax, dHat          float64
	numerator, denominator float64
	state                  []prodigyState
}

type prodigyState struct {
	start []float32 // initial values
	s     []float32 // weighted sum of gradients
	m, v  []float32 // first and second moment
}

const (
	prodigyD0    = 1e-6
	prodigyBeta1 = 0.9
	prodigyBeta2 = 0.999
	prodigyEps   = 1e-8
)

func newProdigy(pool *kernel.Pool, coef float64, params ...param) *prodigy {
	o := &prodigy{pool: pool, params: params, coef: coef, d: prodigyD0, dMax: prodigyD0, dHat: prodigyD0}
	for _, p := range params {
		n := len(p.value)
		st := prodigyState{start: make([]float32, n), s: make([]float32, n), m: make([]float32, n), v: make([]float32, n)}
		copy(st.start, p.value)
		o.state = append(o.state, st)
	}
	return o
}

// step updates the parameters from their gradients.
func (o *prodigy) step() {
	beta3 := math.Sqrt(prodigyBeta2)
	o.numerator *= beta3
	o.denominator = 0
	for i, p := range o.params {
		dot, abs := o.accumulate(&o.state[i], p, beta3)
		o.numerator += o.d / prodigyD0 * o.d * dot
		o.denominator += abs
	}
	d := o.d // this step's size; the estimate below serves the next one
	if o.denominator == 0 {
		return
	}
	o.dHat = o.coef * o.numerator / o.denominator
	if o.d == prodigyD0 {
		o.d = max(o.d, o.dHat)
	}
	o.dMax = max(o.dMax, o.dHat)
	o.d = o.dMax
	eps := float32(o.d * prodigyEps)
	for i, p := range o.params {
		st := &o.state[i]
		forChunks(o.pool, len(p.value), func(_, lo, hi int) {
			kernel.Descend(p.value[lo:hi], st.m[lo:hi], st.v[lo:hi], float32(d), 1, eps)
		})
	}
}

// accumulate advances the moments and returns ⟨grad, start − value⟩ and Σ|s|.
func (o *prodigy) accumulate(st *prodigyState, p param, beta3 float64) (dot, abs float64) {
	n := len(p.value)
	dots, sums := make([]float64, chunks(n)), make([]float64, chunks(n))
	d := o.d
	b1, g1 := float32(prodigyBeta1), float32(d*(1-prodigyBeta1))
	b2, g2 := float32(prodigyBeta2), float32(d*d*(1-prodigyBeta2))
	b3, g3 := float32(beta3), float32(d/prodigyD0*d)
	forChunks(o.pool, n, func(c, lo, hi int) {
		grad := p.grad[lo:hi]
		kernel.Moments(st.m[lo:hi], st.v[lo:hi], grad, b1, g1, b2, g2)
		dot, abs := kernel.Drift(st.s[lo:hi], grad, st.start[lo:hi], p.value[lo:hi], b3, g3)
		dots[c], sums[c] = float64(dot), float64(abs)
	})
	for c := range dots {
		dot += dots[c]
		abs += sums[c]
	}
	return dot, abs
}

// adam is Adam (Kingma and Ba, 2015) with bias correction.
type adam struct {
	pool   *kernel.Pool
	params []param
	lr     float64
	steps  int
	m, v   [][]float32
}

const (
	adamBeta1 = 0.9
	adamBeta2 = 0.999
	adamEps   = 1e-8
)

func newAdam(pool *kernel.Pool, lr float64, params ...param) *adam {
	o := &adam{pool: pool, params: params, lr: lr}
	for _, p := range params {
		o.m = append(o.m, make([]float32, len(p.value)))
		o.v = append(o.v, make([]float32, len(p.value)))
	}
	return o
}

func (o *adam) step() {
	o.steps++
	c1 := 1 - math.Pow(adamBeta1, float64(o.steps))
	c2 := math.Sqrt(1 - math.Pow(adamBeta2, float64(o.steps)))
	size, inv := float32(o.lr/c1), float32(1/c2)
	for i, p := range o.params {
		m, v := o.m[i], o.v[i]
		forChunks(o.pool, len(p.value), func(_, lo, hi int) {
			kernel.Moments(m[lo:hi], v[lo:hi], p.grad[lo:hi], adamBeta1, 1-adamBeta1, adamBeta2, 1-adamBeta2)
			kernel.Descend(p.value[lo:hi], m[lo:hi], v[lo:hi], size, inv, adamEps)
		})
	}
}

// optimizer is what the block's learning loop needs of either.
type optimizer interface{ step() }

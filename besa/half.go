package besa

import (
	"math"

	"github.com/x448/float16"
)

const (
	maxHalf        = 65504          // the largest finite fp16
	smallestNormal = 1. / (1 << 14) // of fp16
	// stepBits is the precision of the grid's steps: the packed layout stores
	// what is left of an fp16 in the bits that vary, and the 15-fold of a step is
	// an fp16 too. A step is off by 1/64 of itself at most.
	stepBits  = 6
	maxStep   = (1<<stepBits - 1) << (16 - stepBits) // the largest step
	maxStep15 = (1<<stepBits - 1) << (12 - stepBits) // the largest whose 15-fold is finite in fp16
)

// toHalf rounds to the nearest fp16, ties to even, staying finite.
func toHalf(v float32) float32 {
	const drop = 24 - 11 // significant bits of a float32 less those of an fp16
	v = clampHalf(v)
	if abs32(v) < smallestNormal {
		// A float32 of this constant's size has the spacing of fp16's subnormals.
		const shift = 0.75
		return float32(math.Copysign(float64(float32(v+shift)-shift), float64(v)))
	}
	b := math.Float32bits(v)
	b += 1<<(drop-1) - 1 + b>>drop&1
	return math.Float32frombits(b &^ (1<<drop - 1))
}

// halfBits returns the fp16 bits of a value that toHalf made.
func halfBits(v float32) uint16 { return uint16(float16.Fromfloat32(v)) }

// toStep rounds to what files hold as a step of the grid: the nearest fp16 with at
// most stepBits significant bits, ties to even, no further from zero than limit.
func toStep(v, limit float32) float32 {
	const drop = 24 - stepBits // significant bits of a float32 less those kept
	b := math.Float32bits(clampHalf(v))
	b += 1<<(drop-1) - 1 + b>>drop&1
	r := math.Float32frombits(b &^ (1<<drop - 1))
	// Far below fp16's normal range the grid of fp16 itself is coarser.
	if abs32(r) < smallestNormal {
		return toHalf(r)
	}
	return min(max(r, -limit), limit)
}

func clampHalf(v float32) float32 { return min(max(v, -maxHalf), maxHalf) }

package ablate

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/go-analyze/charts/chartdraw"
)

const (
	axisMargin = 0.04 // of the values' range, left free at both ends
	maxTicks   = 10   // of an axis of a few hundred pixels
)

// axis is a chartdraw.Range that has its bounds from the start, and round
// numbers for ticks. (chartdraw.LogarithmicRange takes the logarithm of the
// distance from the least value, and has no place for values below 1.)
type axis struct {
	lo, hi float64 // a logarithmic axis's: exponents of ten
	log    bool
	ticks  []float64
	labels []string
	pixels int
}

// newAxis has room for the values. Those of a logarithmic axis are positive.
func newAxis(values []float64, log bool) *axis {
	a := &axis{lo: 0, hi: 1, log: log}
	whole := true // values that count something: there is no half of it
	if len(values) > 0 {
		a.lo, a.hi = a.position(slices.Min(values)), a.position(slices.Max(values))
		whole = !slices.ContainsFunc(values, func(v float64) bool { return v != math.Trunc(v) })
	}
	margin := axisMargin * (a.hi - a.lo)
	switch {
	case margin > 0:
	case log:
		margin = 0.5
	case whole:
		margin = max(1, math.Abs(a.lo)/10)
	default:
		margin = math.Abs(a.lo) / 10
	}
	a.lo, a.hi = a.lo-margin, a.hi+margin
	if log {
		a.ticks, a.labels = logTicks(a.lo, a.hi)
	} else {
		a.ticks, a.labels = linearTicks(a.lo, a.hi, whole)
	}
	return a
}

// position is where a value lies between lo and hi.
func (a *axis) position(v float64) float64 {
	if a.log {
		return math.Log10(v)
	}
	return v
}

// linearTicks are the multiples of 1, 2 or 5 times a power of ten between the
// bounds, as many as there is room for.
func linearTicks(lo, hi float64, whole bool) (ticks []float64, labels []string) {
	m, exponent := tickStep((hi-lo)/(maxTicks-1), whole)
	first := math.Ceil(lo / scaled(m, exponent))
	for i := range maxTicks {
		v := scaled((first+float64(i))*m, exponent)
		if v > hi {
			break
		}
		ticks = append(ticks, v)
		labels = append(labels, label(v, max(0, -exponent)))
	}
	return ticks, labels
}

// tickStep is the least step of 1, 2 or 5 times ten to the exponent that is
// not below a size.
func tickStep(least float64, whole bool) (m float64, exponent int) {
	if whole {
		least = max(least, 1)
	}
	exponent = int(math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 5} {
		if scaled(m, exponent) >= least {
			return m, exponent
		}
	}
	return 1, exponent + 1
}

// scaled is m times ten to the exponent, rounded once: the number that has
// these digits and no others.
func scaled(m float64, exponent int) float64 {
	if exponent < 0 {
		return m / math.Pow10(-exponent)
	}
	return m * math.Pow10(exponent)
}

// label writes a tick's value; what would be long gets an exponent.
func label(v float64, decimals int) string {
	v += 0 // of -0
	if math.Abs(v) >= 1e6 || decimals > 6 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// logTicks are the 1, 2 and 5 of every decade between ten to lo and ten to hi.
// Where they are too many, powers of ten alone; where too few, what a linear
// axis has.
func logTicks(lo, hi float64) (ticks []float64, labels []string) {
	least, most := math.Pow(10, lo), math.Pow(10, hi)
	for e := int(math.Floor(lo)); e <= int(math.Floor(hi)); e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := scaled(m, e); v >= least && v <= most {
				ticks = append(ticks, v)
			}
		}
	}
	if len(ticks) < 3 {
		return linearTicks(least, most, false)
	}
	if len(ticks) > maxTicks {
		ticks, _ = linearTicks(lo, hi, true)
		for i, e := range ticks {
			ticks[i] = scaled(1, int(e))
		}
	}
	for _, v := range ticks {
		labels = append(labels, strconv.FormatFloat(v, 'g', -1, 64))
	}
	return ticks, labels
}

// gridLines has one at every tick; chartdraw's own leave out the outermost.
func (a *axis) gridLines() []chartdraw.GridLine {
	var lines []chartdraw.GridLine
	for _, v := range a.ticks {
		lines = append(lines, chartdraw.GridLine{Value: v})
	}
	return lines
}

// GetTicks implements chartdraw.TicksProvider.
func (a *axis) GetTicks(chartdraw.ValueFormatter) []chartdraw.Tick {
	var all []chartdraw.Tick
	for i, v := range a.ticks {
		all = append(all, chartdraw.Tick{Value: v, Label: a.labels[i]})
	}
	return all
}

// Translate implements chartdraw.Range: pixels from the axis's beginning.
func (a *axis) Translate(v float64) int {
	if a.log && v <= 0 {
		return 0 // chartdraw asks where zero is, whether it fills areas or not
	}
	return int(math.Round((a.position(v) - a.lo) / (a.hi - a.lo) * float64(a.pixels)))
}

// IsZero implements chartdraw.Range: no, there is no need to set bounds.
func (a *axis) IsZero() bool { return false }

// GetMin implements chartdraw.Range.
func (a *axis) GetMin() float64 { return a.lo }

// GetMax implements chartdraw.Range.
func (a *axis) GetMax() float64 { return a.hi }

// SetMin implements chartdraw.Range. It is not called.
func (a *axis) SetMin(v float64) { a.lo = v }

// SetMax implements chartdraw.Range. It is not called.
func (a *axis) SetMax(v float64) { a.hi = v }

// GetDelta implements chartdraw.Range.
func (a *axis) GetDelta() float64 { return a.hi - a.lo }

// GetDomain implements chartdraw.Range.
func (a *axis) GetDomain() int { return a.pixels }

// SetDomain implements chartdraw.Range.
func (a *axis) SetDomain(pixels int) { a.pixels = pixels }

// IsDescending implements chartdraw.Range.
func (a *axis) IsDescending() bool { return false }

func (a *axis) String() string { return fmt.Sprintf("%g to %g", a.lo, a.hi) }

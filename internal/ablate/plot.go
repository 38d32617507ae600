package ablate

import (
	"bytes"
	"fmt"
	"math"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"
)

// Sizes in pixels.
const (
	chartWidth, chartHeight = 720, 430
	chartMargin             = 12 // around everything
	titleSpace              = 40 // above the lines
	nameGap                 = 12 // between the y axis's name and its numbers
	legendGap               = 14 // between the lines and the legend
	legendSample            = 20 // a piece of line in the legend
	legendRow               = 22
)

// Sizes in points.
const (
	titleFont = 12
	textFont  = 10
)

// palette is Okabe and Ito's, made for every kind of colour vision, in an
// order that puts unlike colours beside each other. Its yellow is left out:
// too faint on white.
var palette = []drawing.Color{
	drawing.ColorFromHex("0072B2"), // blue
	drawing.ColorFromHex("D55E00"), // vermilion
	drawing.ColorFromHex("009E73"), // green
	drawing.ColorFromHex("CC79A7"), // purple
	drawing.ColorFromHex("E69F00"), // orange
	drawing.ColorFromHex("56B4E9"), // sky blue
	drawing.ColorFromHex("000000"),
}

var (
	inkColor  = drawing.ColorFromHex("333333")
	gridColor = drawing.ColorFromHex("E0E0E0")
)

// chart is a plot of lines.
type chart struct {
	title, x, y string
	log         bool // the y axis
	series      []line
}

// line is one of a chart's lines.
type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// lineOf has the values' indices as x.
func lineOf(name string, values []float64) line {
	l := line{name: name}
	for i, v := range values {
		l.points = append(l.points, point{float64(i), v})
	}
	return l
}

// svg draws the chart. The same chart gives the same bytes.
func (c chart) svg() ([]byte, error) {
	var xs, ys []float64
	var series []chartdraw.Series
	for i, l := range c.series {
		// The secondary axis is the one on the left.
		s := chartdraw.ContinuousSeries{Name: l.name, Style: lineStyle(i), YAxis: chartdraw.YAxisSecondary}
		for _, p := range l.points {
			if sum := p.x + p.y; math.IsNaN(sum) || math.IsInf(sum, 0) || c.log && p.y <= 0 {
				return nil, fmt.Errorf("%s: the point (%g, %g) has no place", l.name, p.x, p.y)
			}
			s.XValues, s.YValues = append(s.XValues, p.x), append(s.YValues, p.y)
		}
		xs, ys = append(xs, s.XValues...), append(ys, s.YValues...)
		series = append(series, s)
	}
	if len(series) == 0 { // nothing is measured yet
		series = append(series, chartdraw.ContinuousSeries{YAxis: chartdraw.YAxisSecondary})
	}
	x, y := newAxis(xs, false), newAxis(ys, c.log)
	for i := range y.labels {
		y.labels[i] += " " // keeps a font that is wider than the one measured off the axis
	}
	text := chartdraw.Style{FontStyle: chartdraw.FontStyle{Font: chartdraw.GetDefaultFont(), FontColor: inkColor, FontSize: textFont}}
	frame := chartdraw.Style{StrokeColor: inkColor, StrokeWidth: 1, FontStyle: text.FontStyle}
	grid := chartdraw.Style{StrokeColor: gridColor, StrokeWidth: 1}
	d := chartdraw.Chart{
		Width: chartWidth, Height: chartHeight, Series: series, Title: c.title,
		TitleStyle: chartdraw.Style{FontStyle: chartdraw.FontStyle{FontColor: inkColor, FontSize: titleFont}},
		Background: chartdraw.Style{FillColor: drawing.ColorWhite, Padding: c.padding(text)},
		XAxis:      chartdraw.XAxis{Name: c.x, NameStyle: text, Style: frame, Range: x, GridLines: x.gridLines(), GridMajorStyle: grid},
		// Hidden, but its range is looked at.
		YAxis:          chartdraw.YAxis{Style: chartdraw.Hidden(), Range: y},
		YAxisSecondary: chartdraw.YAxis{Style: frame, Range: y, GridLines: y.gridLines(), GridMajorStyle: grid},
		Elements: []chartdraw.Renderable{
			func(r chartdraw.Renderer, canvas chartdraw.Box, _ chartdraw.Style) {
				c.drawName(r, canvas, text)
				c.drawLegend(r, canvas, text)
			},
		},
	}
	var out bytes.Buffer
	if err := d.Render(newRenderer, &out); err != nil {
		return nil, err
	}
	// Without a size of its own a picture fills the width of the page.
	size := fmt.Sprintf(`<svg width="%d" height="%d" `, chartWidth, chartHeight)
	return bytes.Replace(out.Bytes(), []byte("<svg "), []byte(size), 1), nil
}

// renderer takes texts for as high as digits and capitals are. chartdraw takes
// the size of the font, and so writes numbers lower than the ticks they are for.
type renderer struct{ chartdraw.Renderer }

func newRenderer(width, height int) chartdraw.Renderer {
	return renderer{chartdraw.SVG(width, height)}
}

// MeasureText implements chartdraw.Renderer.
func (r renderer) MeasureText(text string) chartdraw.Box {
	box := r.Renderer.MeasureText(text)
	box.Bottom = box.Bottom * 5 / 7
	return box
}

// lineStyle is how series i looks.
func lineStyle(i int) chartdraw.Style {
	color := palette[i%len(palette)]
	return chartdraw.Style{StrokeColor: color, StrokeWidth: 2, DotColor: color, DotWidth: 2.5}
}

// padding leaves room for the title, for the y axis's name on the left and for
// the legend on the right.
func (c chart) padding(text chartdraw.Style) chartdraw.Box {
	r := newRenderer(chartWidth, chartHeight)
	var widest int
	for _, l := range c.series {
		widest = max(widest, chartdraw.Draw.MeasureText(r, l.name, text).Width())
	}
	right := chartMargin
	if widest > 0 {
		// A sixth more for fonts that are wider than the one measured.
		right += legendGap*3/2 + legendSample + widest*7/6
	}
	left := chartMargin + chartdraw.Draw.MeasureText(r, c.y, text).Height() + nameGap
	return chartdraw.Box{Top: titleSpace, Left: left, Right: right, Bottom: chartMargin, IsSet: true}
}

// drawName writes the y axis's name from bottom to top: chartdraw has it from
// top to bottom, and does not count it when it measures an axis on the left.
func (c chart) drawName(r chartdraw.Renderer, canvas chartdraw.Box, text chartdraw.Style) {
	box := chartdraw.Draw.MeasureText(r, c.y, text)
	text.TextRotationDegrees = 270
	chartdraw.Draw.Text(r, c.y, chartMargin+box.Height(), (canvas.Top+canvas.Bottom+box.Width())/2, text)
}

// drawLegend names the lines beside them: inside it would cover some.
func (c chart) drawLegend(r chartdraw.Renderer, canvas chartdraw.Box, text chartdraw.Style) {
	left := canvas.Right + legendGap
	right := left + legendSample
	for i, l := range c.series {
		middle := canvas.Top + legendRow/2 + i*legendRow
		style := lineStyle(i)
		style.GetStrokeOptions().WriteToRenderer(r)
		r.MoveTo(left, middle)
		r.LineTo(right, middle)
		r.Stroke()
		style.GetDotOptions().WriteToRenderer(r)
		r.Circle(style.DotWidth, (left+right)/2, middle)
		r.FillStroke()
		height := chartdraw.Draw.MeasureText(r, l.name, text).Height()
		chartdraw.Draw.Text(r, l.name, right+legendGap/2, middle+height/2, text)
	}
}

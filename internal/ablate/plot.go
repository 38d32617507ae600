package ablate

import (
	"bytes"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
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

// Len implements plotter.XYer.
func (l line) Len() int { return len(l.points) }

// XY implements plotter.XYer.
func (l line) XY(i int) (x, y float64) { return l.points[i].x, l.points[i].y }

// svg draws the chart. The same chart gives the same bytes.
func (c chart) svg() ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.title, c.x, c.y
	p.Title.Padding = vg.Points(6)
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, c.log
	for i, s := range c.series {
		l, points, err := plotter.NewLinePoints(s)
		if err != nil {
			return nil, err
		}
		l.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		l.Width = vg.Points(1.5)
		points.Shape = plotutil.Shape(i)
		p.Add(l, points)
		p.Legend.Add(s.name, l, points)
	}
	if c.log && len(c.series) > 0 {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	w, err := p.WriterTo(16*vg.Centimeter, 10*vg.Centimeter, "svg")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = w.WriteTo(&out)
	return out.Bytes(), err
}

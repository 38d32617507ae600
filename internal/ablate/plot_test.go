package ablate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// checkXML reads an SVG to its end.
func checkXML(t *testing.T, name, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		log    bool
		want   string
	}{
		{"blocks", []float64{0, 29}, false, "0 5 10 15 20 25 30"},
		{"few blocks have no halves", []float64{0, 3}, false, "0 1 2 3"},
		{"windows", []float64{8, 128}, false, "20 40 60 80 100 120"},
		{"as many decimals as the step", []float64{0.416, 0.619}, false, "0.45 0.50 0.55 0.60"},
		{"step of two", []float64{0.1, 1.7}, false, "0.2 0.4 0.6 0.8 1.0 1.2 1.4 1.6"},
		{"on both sides of zero", []float64{-0.25, 0.25}, false, "-0.2 -0.1 0.0 0.1 0.2"},
		{"large", []float64{0.5, 3e6}, false, "0 500000 1e+06 1.5e+06 2e+06 2.5e+06 3e+06"},
		{"small", []float64{1e-9, 2.5e-9}, false, "1e-09 1.2e-09 1.4e-09 1.6e-09 1.8e-09 2e-09 2.2e-09 2.4e-09"},
		{"one value", []float64{0.05}, false, "0.046 0.048 0.050 0.052 0.054"},
		{"one number", []float64{7}, false, "6 7 8"},
		{"zero", []float64{0, 0}, false, "-1 0 1"},
		{"nothing", nil, false, "0 1"},

		{"1, 2 and 5", []float64{31.4, 31000}, true, "50 100 200 500 1000 2000 5000 10000 20000"},
		{"below 1", []float64{0.003, 0.8}, true, "0.005 0.01 0.02 0.05 0.1 0.2 0.5 1"},
		{"from below 1 to above", []float64{0.3, 30}, true, "0.5 1 2 5 10 20"},
		{"decades", []float64{0.5, 2e6}, true, "1 10 100 1000 10000 100000 1e+06"},
		{"every fifth decade", []float64{1e-10, 1e15}, true, "1e-10 1e-05 1 100000 1e+10 1e+15"},
		{"too close for decades", []float64{21, 47}, true, "25 30 35 40 45"},
		{"one value of a logarithm", []float64{60, 60}, true, "20 50 100"},
		{"nothing of a logarithm", nil, true, "1 2 5 10"},
	} {
		a := newAxis(c.values, c.log)
		if got := strings.Join(a.labels, " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		a.SetDomain(1000)
		for _, v := range append(a.ticks, c.values...) {
			if at := a.Translate(v); at < 0 || at > 1000 {
				t.Errorf("%s: %g is at %d of 1000", c.name, v, at)
			}
		}
	}
}

func TestLogAxis(t *testing.T) {
	a := newAxis([]float64{0.01, 100}, true)
	a.SetDomain(1080)
	for v, want := range map[float64]int{
		0.01: 40, 0.1: 290, 1: 540, 10: 790, 100: 1040, math.Sqrt(10): 665, 0: 0, -1: 0,
	} {
		if got := a.Translate(v); got != want {
			t.Errorf("%g is at %d of 1080, want %d", v, got, want)
		}
	}
	if a.IsZero() || a.IsDescending() || a.GetDelta() != a.GetMax()-a.GetMin() {
		t.Errorf("%s is taken for another kind of axis", a)
	}
}

func TestChart(t *testing.T) {
	one := line{"one", []point{{32, 59.5}}}
	var many []line
	for range 2*len(palette) + 1 {
		many = append(many, lineOf("layer", []float64{1, 2, 4}))
	}
	for _, c := range []struct {
		name string
		chart
		dots int // with the legend's
	}{
		{"nothing", chart{}, 0},
		{"nothing, logarithmic", chart{log: true}, 0},
		{"no points", chart{series: []line{{name: "none"}}}, 1},
		{"one point", chart{series: []line{one}}, 2},
		{"one point, logarithmic", chart{series: []line{one}, log: true}, 2},
		{"equal values", chart{series: []line{lineOf("a", []float64{0, 0, 0}), lineOf("b", []float64{0, 0})}}, 7},
		{"equal values, logarithmic", chart{series: []line{lineOf("a", []float64{0.2, 0.2})}, log: true}, 3},
		{"more lines than colours", chart{series: many}, 4 * len(many)},
		{"names that XML would mistake", chart{title: "a<b", x: `"&"`, y: "]]>", series: []line{{name: "<&>", points: one.points}}}, 2},
	} {
		svg, err := c.svg()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		checkXML(t, c.name, string(svg))
		if got := bytes.Count(svg, []byte("<circle")); got != c.dots {
			t.Errorf("%s: %d dots, want %d", c.name, got, c.dots)
		}
		if again, err := c.svg(); err != nil || !bytes.Equal(again, svg) {
			t.Errorf("%s: other bytes the second time (error %v)", c.name, err)
		}
	}
}

// What cannot be drawn is an error, not a picture without it.
func TestChartRefuses(t *testing.T) {
	for _, c := range []chart{
		{series: []line{lineOf("a", []float64{1, math.NaN()})}},
		{series: []line{lineOf("a", []float64{math.Inf(1)})}},
		{series: []line{lineOf("a", []float64{1, 0})}, log: true},
	} {
		if _, err := c.svg(); err == nil || !strings.Contains(err.Error(), "has no place") {
			t.Errorf("%v: error %v", c.series, err)
		}
	}
}

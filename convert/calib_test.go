package convert

import (
	"errors"
	"slices"
	"testing"
)

func TestCalibrationPlan(t *testing.T) {
	for name, tc := range map[string]struct {
		c               Calibration
		tokens, context int
		samples, length int
		err             error
	}{
		"defaults":            {Calibration{}, 400000, 8192, 128, 2048, nil},
		"short context":       {Calibration{}, 400000, 512, 128, 512, nil},
		"less text":           {Calibration{}, 40000, 8192, 19, 2048, nil},
		"too little":          {Calibration{}, 10000, 8192, 0, 0, ErrCalibration},
		"asked and there":     {Calibration{Samples: 4, Len: 100}, 400, 512, 4, 100, nil},
		"asked and not there": {Calibration{Samples: 5, Len: 100}, 400, 512, 0, 0, ErrCalibration},
		"empty":               {Calibration{Samples: 1, Len: 100}, 0, 512, 0, 0, ErrCalibration},
		"stride":              {Calibration{Samples: 4, Len: 100, Stride: 10}, 130, 512, 4, 100, nil},
		"stride too wide":     {Calibration{Samples: 4, Len: 100, Stride: 11}, 130, 512, 0, 0, ErrCalibration},
	} {
		got, err := tc.c.length(tc.context)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err = got.plan(tc.tokens)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: error %v, want %v", name, err, tc.err)
		}
		if err == nil && (got.Samples != tc.samples || got.Len != tc.length) {
			t.Errorf("%s: %d windows of %d, want %d of %d", name, got.Samples, got.Len, tc.samples, tc.length)
		}
	}
	if _, err := (Calibration{Len: 4096}).length(512); err == nil {
		t.Error("windows longer than the context are accepted")
	}
	if _, err := (Calibration{Samples: -1}).length(512); err == nil {
		t.Error("a negative number of windows is accepted")
	}
}

func TestCalibrationStarts(t *testing.T) {
	c := Calibration{Samples: 10, Len: 50, Seed: 1}
	for tokens := 500; tokens < 700; tokens += 7 {
		starts := c.starts(tokens)
		for i, s := range starts {
			if s < 0 || s+c.Len > tokens || i > 0 && s < starts[i-1]+c.Len {
				t.Fatalf("windows of %d at %v overlap or leave %d tokens", c.Len, starts, tokens)
			}
		}
	}
	a, b := c.starts(5000), c.starts(5000)
	c.Seed = 2
	if !slices.Equal(a, b) || slices.Equal(a, c.starts(5000)) {
		t.Error("the same seed must give the same windows, another seed others")
	}
	if got := (Calibration{Samples: 3, Len: 5, Stride: 7}).starts(100); !slices.Equal(got, []int{0, 7, 14}) {
		t.Errorf("strided windows start at %v", got)
	}
}

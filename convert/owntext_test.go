package convert

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"besa/besa"
)

// own is a conversion without a calibration text.
func own(t *testing.T) Options {
	t.Helper()
	return demo(t, func(o *Options) {
		o.Calibration = Calibration{Path: filepath.Join(t.TempDir(), "unused"), Samples: 9, Len: 300}
		o.Method.Method = besa.MethodWanda
	})
}

func TestWithoutText(t *testing.T) {
	o := own(t)
	o.Calibration.Path = ""
	o.Output = filepath.Join(t.TempDir(), "out.gguf")
	plan, err := DryRun(t.Context(), o)
	if err != nil || plan.Sampling != SamplingSelf || plan.Samples != 9 || !(plan.Seconds > 0) {
		t.Fatalf("planned %+v, %v", plan, err)
	}
	report, err := Run(t.Context(), o)
	if err != nil || report.Sampling != SamplingSelf || report.Samples != 9 || report.Tokens != 300 {
		t.Fatalf("%+v, %v", report, err)
	}
	want, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}

	// Stopped while the text is written, and started again with fewer threads:
	// what is written is not written again, and the output is the same.
	o.Output = filepath.Join(t.TempDir(), "again.gguf")
	ctx, cancel := context.WithCancel(t.Context())
	o.OnEvent = func(e Event) {
		if e.Stage == StagePrune {
			cancel()
		}
	}
	_, err = Run(ctx, o)
	kept, ok := errors.AsType[*KeptError](err)
	if !ok || kept.Done != 0 || !strings.Contains(err.Error(), "calibration text") {
		t.Fatalf("stopped with %v", err)
	}
	file := filepath.Join(o.Output+JournalSuffix, ownName)
	half, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, int64(len(half)-3)); err != nil { // the last record is broken off
		t.Fatal(err)
	}
	written := 0
	o.Threads = 1
	o.OnEvent = func(e Event) {
		if e.Stage == StageWriteOwn {
			written++
		}
		if e.Done < 0 || e.Done > 1 {
			t.Errorf("%g of the work is done", e.Done)
		}
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(o.Output); err != nil || !bytes.Equal(got, want) {
		t.Errorf("continued, the output is another (%v)", err)
	}
	if _, err := os.Stat(o.Output + JournalSuffix); err == nil {
		t.Error("the journal is still there")
	}
	if written == 0 {
		t.Error("what was broken off was not written again")
	}
}

func TestOwnTextInJournal(t *testing.T) {
	o := demo(t, nil)
	j, err := lockJournal(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := j.openOwn("a key", true); err != nil || ids != nil {
		t.Fatalf("%v, %v", ids, err)
	}
	for _, s := range [][][]int32{{{1, 2}, {3, 4}}, {{5, 1 << 30}}} {
		if err := j.appendOwn(s); err != nil {
			t.Fatal(err)
		}
	}
	want := []int32{1, 2, 3, 4, 5, 1 << 30}
	if ids, err := j.openOwn("a key", true); err != nil || !reflect.DeepEqual(ids, want) {
		t.Errorf("%v, %v", ids, err)
	}
	data, err := os.ReadFile(j.path(ownName))
	if err != nil {
		t.Fatal(err)
	}
	for n := range data[8:] { // cut anywhere: whole records stay
		if ids, sound := parseOwn(data[8 : 8+n]); sound > n || !slices.Equal(ids, want[:len(ids)]) || len(ids)%2 != 0 || len(ids) == 6 {
			t.Errorf("of %d bytes: %v from %d", n, ids, sound)
		}
	}
	for i := range data {
		data[i] ^= 1
		if ids, _ := parseOwn(data[8:]); i >= 8 && len(ids) == 6 {
			t.Errorf("byte %d changed: %v", i, ids)
		}
		data[i] ^= 1
	}
	if ids, err := j.openOwn("another key", true); err != nil || ids != nil {
		t.Errorf("with another key: %v, %v", ids, err)
	}
	if err := j.close(false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(j.dir); err == nil {
		t.Error("the journal is still there")
	}
}

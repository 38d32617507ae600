package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"besa/internal/demomodel"
	"besa/internal/tokenizer"
)

// sampler is a conversion that gets no further than its windows.
func sampler(t *testing.T) func(c Calibration) (*runner, error) {
	t.Helper()
	o := demo(t, nil)
	return func(c Calibration) (*runner, error) {
		t.Helper()
		o.Calibration = c
		r, err := newRunner(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.close(nil) })
		return r, r.calibrate(t.Context())
	}
}

// jsonLines writes documents as JSON lines.
func jsonLines(t *testing.T, documents []string) string {
	t.Helper()
	var b strings.Builder
	for _, d := range documents {
		fmt.Fprintf(&b, "{\"text\":%q}\n", d)
	}
	path := filepath.Join(t.TempDir(), "c.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWindowsOfDocuments(t *testing.T) {
	sample := sampler(t)
	// Short and long documents by turns; every one names itself again and again.
	var documents []string
	for i := range 60 {
		words := 5
		if i%3 == 0 {
			words = 120
		}
		documents = append(documents, strings.Repeat(fmt.Sprintf("%c%c ", 'a'+i/10, 'a'+i%10), words))
	}
	path := jsonLines(t, documents)
	r, err := sample(Calibration{Path: path, Samples: 12, Len: 40, Seed: 3})
	if err != nil || r.sampling != SamplingDocuments || len(r.windows) != 12 {
		t.Fatalf("%d windows by %q, %v", len(r.windows), r.sampling, err)
	}
	tok, err := tokenizer.New(r.model.File())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, w := range r.windows {
		text, err := tok.Decode(w)
		if err != nil || len(w) != 40 {
			t.Fatalf("window of %d tokens, %v", len(w), err)
		}
		fields := strings.Fields(text)
		name := fields[len(fields)/2]
		if n := strings.Count(text, name); n < len(fields)-2 {
			t.Errorf("a window is from more than one document: %q", text)
		}
		if seen[name] {
			t.Errorf("two windows are from document %q", name)
		}
		seen[name] = true
	}
	again, err := sample(Calibration{Path: path, Samples: 12, Len: 40, Seed: 3})
	if err != nil || !reflect.DeepEqual(again.windows, r.windows) || again.windowsHash != r.windowsHash {
		t.Errorf("the same seed gives other windows (%v)", err)
	}
	other, err := sample(Calibration{Path: path, Samples: 12, Len: 40, Seed: 4})
	if err != nil || reflect.DeepEqual(other.windows, r.windows) || other.windowsHash == r.windowsHash || other.textHash != r.textHash {
		t.Errorf("another seed gives the same windows (%v)", err)
	}

	// More windows than long documents: all are packed.
	packed, err := sample(Calibration{Path: path, Samples: 22, Len: 40, Seed: 3})
	if err != nil || packed.sampling != SamplingPacked || len(packed.windows) != 22 {
		t.Errorf("%d windows by %q, %v", len(packed.windows), packed.sampling, err)
	}
	if _, err := sample(Calibration{Path: path, Samples: 2000, Len: 40}); !errors.Is(err, ErrCalibration) {
		t.Errorf("more windows than text: %v", err)
	}
	if r, err := sample(Calibration{Path: path, Len: 40}); err != nil || len(r.windows) >= defaultSamples || r.sampling != SamplingPacked {
		t.Errorf("as many windows as there are: %d, %v", len(r.windows), err)
	}
}

// TestPackedKeepsText: where no document is long enough, the windows are those
// of the joined documents.
func TestPackedKeepsText(t *testing.T) {
	sample := sampler(t)
	r, err := sample(Calibration{Path: jsonLines(t, slices.Repeat([]string{"In the beginning"}, 200)), Samples: 10, Len: 30})
	if err != nil || r.sampling != SamplingPacked {
		t.Fatalf("by %q, %v", r.sampling, err)
	}
	tok, err := tokenizer.New(r.model.File())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.windows {
		if text, err := tok.Decode(w); err != nil || !strings.Contains(text, "In the beginning\n\nIn the beginning") {
			t.Errorf("window %q, %v", text, err)
		}
	}
}

// TestStrideIsFixed: documents in their order, joined, at equal distances.
func TestStrideIsFixed(t *testing.T) {
	sample := sampler(t)
	text := demomodel.Calibration()[:8000]
	path := jsonLines(t, []string{text[:3000], text[3002:]})
	r, err := sample(Calibration{Path: path, Samples: 7, Len: 30, Stride: 100, Seed: 9})
	if err != nil || r.sampling != SamplingStride {
		t.Fatalf("by %q, %v", r.sampling, err)
	}
	tok, err := tokenizer.New(r.model.File())
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode(text[:3000] + "\n\n" + text[3002:])
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range r.windows {
		if !slices.Equal(w, ids[i*100:i*100+30]) {
			t.Errorf("window %d is another", i)
		}
	}
}

func TestReservoir(t *testing.T) {
	often := map[string]int{}
	for seed := range uint64(400) {
		r := reservoir{seed: seed, room: 30}
		for i := range 26 {
			r.add(strings.Repeat(string(rune('a'+i)), 10))
		}
		kept := r.sorted()
		if len(kept) != 3 {
			t.Fatalf("%d documents of 10 bytes in 30", len(kept))
		}
		for _, d := range kept {
			often[d[:1]]++
		}
	}
	for i := range 26 { // 46 on average
		if n := often[string(rune('a'+i))]; n < 20 || n > 80 {
			t.Errorf("document %d was kept %d times of 400", i, n)
		}
	}
	large := reservoir{room: 5}
	large.add("larger than the room")
	if got := large.sorted(); len(got) != 1 {
		t.Errorf("one document, larger than the room: %q", got)
	}
}

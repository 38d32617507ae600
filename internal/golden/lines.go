package golden

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// Lines compares named lines of text with those of the file at path: a name, a
// tab and the text each, ordered by name. With update it writes the file instead.
func Lines(t testing.TB, path string, update bool, got map[string]string) {
	t.Helper()
	if update {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(got)) {
			fmt.Fprintf(&b, "%s\t%s\n", name, got[name])
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		want[name] = text
		if _, ok := got[name]; !ok {
			t.Errorf("%s has %q, which no test makes", path, name)
		}
	}
	for name, text := range got {
		if text != want[name] {
			t.Errorf("%s: %q, %s has %q", name, text, path, want[name])
		}
	}
}

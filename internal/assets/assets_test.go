package assets

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// recorder stands in for a test that Path skips or fails.
type recorder struct {
	testing.TB
	outcome string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.outcome = "fatal"
	panic(fmt.Sprintf(format, args...))
}

func (r *recorder) Skipf(format string, args ...any) {
	r.outcome = "skip"
	panic(fmt.Sprintf(format, args...))
}

func outcome(rel string) (path, result string) {
	r := &recorder{outcome: "found"}
	defer func() {
		_ = recover()
		result = r.outcome
	}()
	return Path(r, rel), r.outcome
}

func TestPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BESA_TEST_ASSETS", dir)
	if err := os.WriteFile(filepath.Join(dir, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ rel, require, want string }{
		{"there", "", "found"},
		{"there", "1", "found"},
		{"absent", "", "skip"},
		{"absent", "1", "fatal"},
	} {
		t.Setenv("BESA_TEST_REQUIRE_ASSETS", c.require)
		path, got := outcome(c.rel)
		if got != c.want {
			t.Errorf("%s with require=%q: %s, want %s", c.rel, c.require, got, c.want)
		}
		if got == "found" && path != filepath.Join(dir, c.rel) {
			t.Errorf("%s is at %s", c.rel, path)
		}
	}
}

func TestDir(t *testing.T) {
	t.Setenv("BESA_TEST_ASSETS", "")
	t.Setenv("XDG_CACHE_HOME", "/caches")
	if got := Dir(); got != "/caches/besa/assets" {
		t.Error(got)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "/home/someone")
	if got := Dir(); got != "/home/someone/.cache/besa/assets" {
		t.Error(got)
	}
}

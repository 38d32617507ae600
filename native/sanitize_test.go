package native

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"besa/internal/assets"
	"besa/sparsefmt"
)

// sanitized builds the test library with AddressSanitizer and
// UndefinedBehaviorSanitizer, and a program that runs its main function. It skips
// the test where the compiler has no sanitizers, unless $BESA_TEST_REQUIRE_SANITIZERS is set.
func sanitized(t *testing.T) (program, library string) {
	t.Helper()
	cc, dir := compiler(t), t.TempDir()
	program, library = filepath.Join(dir, "program"), filepath.Join(dir, "sanitized.so")
	flags := []string{"-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}
	build := func(text, out string, args ...string) {
		source := out + ".c"
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if msg, err := exec.Command(cc, append(append(flags, "-o", out, source), args...)...).CombinedOutput(); err != nil {
			if os.Getenv("BESA_TEST_REQUIRE_SANITIZERS") != "" {
				t.Fatalf("%v\n%s", err, msg)
			}
			t.Skipf("the compiler has no sanitizers: %v\n%s", err, msg)
		}
	}
	build("int main(void) { return 0; }\n", filepath.Join(dir, "probe"))
	compile(t, library, testOnly, flags...)
	build("int besa_test_main(int, char **);\nint main(int n, char **v) { return besa_test_main(n, v); }\n", program, library)
	return program, library
}

// record writes a product for the program: a blob, activations and, if it is
// not nil, the result.
func record(t *testing.T, w io.Writer, blob []byte, m *sparsefmt.Matrix, tokens int, x []float32, want []float64) {
	t.Helper()
	header := struct {
		BlobBytes                                      uint64
		Coding, Rows, Cols, Tokens, Expected, Reserved uint32
	}{uint64(len(blob)), uint32(m.Coding), uint32(m.Rows), uint32(m.Cols), uint32(tokens), 0, 0}
	parts := []any{&header, blob, x}
	if want != nil {
		header.Expected = 1
		y := make([]float32, len(want))
		for i, v := range want {
			y[i] = float32(v)
		}
		parts = append(parts, y)
	}
	for _, part := range parts {
		if err := binary.Write(w, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
}

// Built with AddressSanitizer and UndefinedBehaviorSanitizer, every kernel still
// gives the exact result on every shape, encoding and expanding included, corrupt
// blobs do no harm, and the plugin works in ggml's own libraries and leaks nothing.
func TestSanitizers(t *testing.T) {
	if testing.Short() {
		t.Skip("a sanitized build takes half a minute")
	}
	l := loadKernels(t)
	program, library := sanitized(t)
	run := func(args ...string) string {
		var out, messages bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Stdout, cmd.Stderr = &out, &messages
		if err := cmd.Run(); err != nil || strings.Contains(messages.String(), "runtime error") {
			t.Errorf("%v\n%s", err, messages.String())
		}
		return strings.TrimSpace(out.String())
	}

	path := filepath.Join(t.TempDir(), "records")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	scales := []float32{1, 2, 0.5, -1, 0}
	for _, s := range shapes() {
		for _, coding := range codings {
			rnd := rand.New(rand.NewPCG(uint64(s.rows), uint64(s.cols)))
			m := s.matrix(rnd, coding, func() float32 { return scales[rnd.IntN(len(scales))] })
			blob, err := sparsefmt.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			few := l.fewOf(coding)
			for _, tokens := range []int{1 + rnd.IntN(few), few + 1, few + 2 + rnd.IntN(8)} {
				x := exactActivations(rnd, tokens*s.cols)
				record(t, w, blob, m, tokens, x, reference(t, m, x, tokens))
			}
			for i := range 4 {
				bad, tokens := corrupt(rnd, blob, i), 1+rnd.IntN(8)
				record(t, w, bad, m, tokens, normal(rnd, tokens*s.cols), nil)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log(run(path))
	t.Run("ggml", func(t *testing.T) { t.Log(run(assets.Path(t, assets.Llama), library)) })
}

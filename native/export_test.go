package native

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the tests of whole models need: they are a package of their own, since
// the binding they use imports this one.

// ChildVariable holds the job of a process that runs models, and Child does it.
const ChildVariable = "BESA_NATIVE_TEST_JOB"

// Child is set by the tests of whole models.
var Child func() int

// Codings that have kernels.
var Codings = codings

// Distance is ‖a − b‖/‖b‖.
var Distance = distance

// PluginForTests returns the path of the plugin's test build, or skips the test.
func PluginForTests(t *testing.T) string {
	loadKernels(t)
	return testLibrary
}

// A Change replaces a piece of a source file, which must occur in it.
type Change struct{ File, Old, New string }

// ggmlParts are the sources that depend on ggml's declarations.
var ggmlParts = []string{"accel.c", "buffer.c", "matmul.c", "offers.c", "plugin.c"}

// Altered builds plugins whose sources are changed, one for each name: as if they
// had been written for another llama.cpp. It skips the test without a C compiler.
func Altered(t *testing.T, changes map[string][]Change) map[string]string {
	t.Helper()
	cc := compiler(t)
	build := func(dir string, args ...string) {
		cmd := exec.Command(cc, append([]string{"-std=c11", "-D_GNU_SOURCE", "-O1", "-fPIC", "-fvisibility=hidden"}, args...)...)
		cmd.Dir = dir
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
	}
	kernels := t.TempDir() // compiled once
	files, err := Unpack(kernels)
	if err != nil {
		t.Fatal(err)
	}
	var objects []string
	args := []string{"-c"}
	for _, f := range files {
		name := filepath.Base(f)
		if !strings.Contains(strings.Join(ggmlParts, " "), name) {
			args = append(args, name)
			objects = append(objects, strings.TrimSuffix(f, ".c")+".o")
		}
	}
	build(kernels, args...)
	plugins := map[string]string{}
	for name, list := range changes {
		dir := t.TempDir()
		if _, err := Unpack(dir); err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			path := filepath.Join(dir, c.File)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), c.Old) {
				t.Fatalf("%s: %s has no %q", name, c.File, c.Old)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(text), c.Old, c.New, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		args := append([]string{"-shared", "-Wl,-z,nodelete", "-Wl,--no-undefined", "-o", Library}, ggmlParts...)
		build(dir, append(append(args, objects...), "-ldl", "-lpthread")...)
		plugins[name] = filepath.Join(dir, Library)
	}
	return plugins
}

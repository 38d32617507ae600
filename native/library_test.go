package native

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// library is the plugin's test build, loaded.
type library struct {
	open      func(blob unsafe.Pointer, bytes uint64) string
	encode    func(data unsafe.Pointer, coding, rows, cols uint32, dst, group unsafe.Pointer) uint64
	bound     func(coding, rows, cols uint32) uint64
	expand    func(blob unsafe.Pointer, bytes uint64, dst unsafe.Pointer)
	multiply  func(blob unsafe.Pointer, bytes uint64, kernel int32, tokens uint32, x, y unsafe.Pointer, atStart int32) int32
	supported func() int32
	few       func(coding uint32) uint32
	offer     func(t unsafe.Pointer) int32
	withdraw  func(blob unsafe.Pointer)
	stats     func(s unsafe.Pointer) int32
	abi       func() int32
	ggml      func(dir, plugin string) string
	weight    func(buft, name string, ggmlType int32, rows, cols int64, data unsafe.Pointer) uintptr
	free      func(weight uintptr)
	readBack  func(weight uintptr, data unsafe.Pointer)
	products  func(weights unsafe.Pointer, n, tokens int32, x, y unsafe.Pointer, threads, repeats int32, seconds unsafe.Pointer) int32
}

// compiler returns the C compiler. It skips the test without one, unless
// $BESA_TEST_REQUIRE_SANITIZERS is set, which asks for one that has them.
func compiler(t testing.TB) string {
	t.Helper()
	cc, err := Compiler()
	if err != nil {
		if os.Getenv("BESA_TEST_REQUIRE_SANITIZERS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return cc
}

// compile builds the sources, with extra arguments and files from src, into out.
func compile(t testing.TB, out string, with []string, extra ...string) {
	t.Helper()
	cc, dir := compiler(t), t.TempDir()
	files, err := Unpack(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range with {
		files = append(files, filepath.Join(dir, name))
	}
	warnings := []string{"-Wall", "-Wextra", "-Wshadow", "-Werror", "-Wstrict-prototypes"}
	if msg, err := exec.Command(cc, Flags(out, files, append(warnings, extra...)...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc, err, msg)
	}
}

// loadOnce keeps the library for the process: it is linked never to be unloaded.
var loadOnce = sync.OnceValues(func() (uintptr, error) {
	return purego.Dlopen(testLibrary, purego.RTLD_NOW|purego.RTLD_LOCAL)
})

var testLibrary string

func TestMain(m *testing.M) {
	if os.Getenv(ChildVariable) != "" {
		os.Exit(Child())
	}
	dir, err := os.MkdirTemp("", "besa-native-test-")
	if err != nil {
		panic(err)
	}
	testLibrary = filepath.Join(dir, "test.so")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func load(t testing.TB) *library {
	t.Helper()
	if _, err := os.Stat(testLibrary); err != nil {
		compile(t, testLibrary, testOnly)
	}
	h, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	l := &library{}
	for name, fn := range map[string]any{
		"besa_test_open": &l.open, "besa_test_encode": &l.encode, "besa_test_bound": &l.bound, "besa_test_expand": &l.expand,
		"besa_test_multiply": &l.multiply, "besa_test_supported": &l.supported, "besa_test_few": &l.few, "besa_native_offer": &l.offer,
		"besa_native_withdraw": &l.withdraw, "besa_native_stats": &l.stats, "besa_native_abi": &l.abi,
		"besa_test_ggml": &l.ggml, "besa_test_weight": &l.weight, "besa_test_weight_free": &l.free, "besa_test_weight_get": &l.readBack,
		"besa_test_products": &l.products,
	} {
		purego.RegisterLibFunc(fn, h, name)
	}
	return l
}

// loadKernels skips the test where the processor lacks the instructions.
func loadKernels(t testing.TB) *library {
	l := load(t)
	if l.supported() == 0 {
		t.Skip("no AVX-512 VBMI2")
	}
	return l
}

// An edge says which end of guarded memory is tight against an unreadable page.
type edge int32

const (
	atEnd edge = iota
	atStart
)

var edges = []edge{atEnd, atStart}

// guarded copies data to memory between two unreadable pages, tight against one
// of them, so that a read or write past that edge is a fault.
func guarded(t *testing.T, data []byte, tight edge) []byte {
	t.Helper()
	page := os.Getpagesize()
	n := (len(data) + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, n+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	inner := m[page : page+n]
	if err := unix.Mprotect(inner, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	if tight == atEnd {
		inner = inner[n-len(data):]
	}
	b := inner[:len(data):len(data)]
	copy(b, data)
	return b
}

// floats sees guarded bytes as floats.
func floats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}

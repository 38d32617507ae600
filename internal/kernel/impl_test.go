package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUse(t *testing.T) {
	before := Implementation()
	defer Use(before)
	names := Implementations()
	if len(names) == 0 || names[0] != "generic" {
		t.Fatalf("implementations %v: generic is missing", names)
	}
	if os.Getenv("BESA_KERNEL") == "" && before != names[len(names)-1] {
		t.Errorf("%s is in use, not the best of %v", before, names)
	}
	for _, name := range names {
		if err := Use(name); err != nil || Implementation() != name {
			t.Errorf("Use(%q): %v; %s in use", name, err, Implementation())
		}
	}
	if err := Use("sse9"); err == nil || !strings.Contains(err.Error(), `"sse9"`) || !strings.Contains(err.Error(), "generic") {
		t.Errorf("unknown name: %v", err)
	}
	if got := Implementation(); got != names[len(names)-1] {
		t.Errorf("a failed Use changed the kernel to %s", got)
	}
}

// TestUseMissing plants an implementation whose CPU feature is missing.
func TestUseMissing(t *testing.T) {
	saved := implementations
	defer func() { implementations = saved }()
	implementations = append(slices.Clone(saved), &implementation{name: "future", missing: func() []string { return []string{"TIME", "TRAVEL"} }})
	err := Use("future")
	if err == nil || !strings.Contains(err.Error(), "TIME, TRAVEL") {
		t.Errorf("missing features: %v", err)
	}
	if slices.Contains(Implementations(), "future") || best().name == "future" {
		t.Error("an implementation that cannot run is offered")
	}
}

// TestEnvironment starts this test again with BESA_KERNEL set.
func TestEnvironment(t *testing.T) {
	if os.Getenv("KERNEL_TEST_CHILD") != "" {
		err := Select()
		if err != nil {
			os.Stdout.WriteString("error: " + err.Error() + "\n")
		}
		os.Stdout.WriteString("in use: " + Implementation() + "\n")
		return
	}
	best := Implementations()[len(Implementations())-1]
	for value, want := range map[string][]string{
		"generic": {"in use: generic"},
		best:      {"in use: " + best},
		"":        {"in use: " + best},
		"abacus":  {`error: BESA_KERNEL: unknown kernel "abacus"`, "in use: " + best},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnvironment$")
		cmd.Env = append(os.Environ(), "KERNEL_TEST_CHILD=1", "BESA_KERNEL="+value)
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("an emulated test cannot start itself")
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("BESA_KERNEL=%q: %q is missing in %q", value, w, out)
			}
		}
	}
}

// TestArchitecture: on amd64 with the assembly compiled in, a CPU that has
// the features must get the kernels; a mistake in the list of features would
// otherwise only show as slowness.
func TestArchitecture(t *testing.T) {
	if runtime.GOARCH != "amd64" || len(archImplementations) == 0 {
		return
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return // another system: nothing to compare with
	}
	for name, flag := range map[string]string{"avx2": " avx2 ", "avx512": " avx512f ", "avx512bf16": " avx512_bf16 "} {
		has := strings.Contains(strings.ReplaceAll(string(info), "\n", " \n"), flag)
		if got := slices.Contains(Implementations(), name); got != has {
			t.Errorf("%s: offered %v, the CPU has it %v", name, got, has)
		}
	}
}

// TestRequirements: the generator notes what each function requires; every bit
// of that must be among the features that the implementation asks for, or be
// one that all amd64 systems have or that AVX2 implies.
func TestRequirements(t *testing.T) {
	implied := "AVX CMOV MMX+ SSE SSE2"
	declared := map[string]string{"AVX2": implied + " AVX2 FMA3", "AVX512": implied + " AVX2 FMA3 AVX512F",
		"AVX512BF16": implied + " AVX2 FMA3 AVX512F AVX512BW AVX512_BF16"}
	files, err := filepath.Glob("*_amd64.s")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d assembly files: %v", len(files), err)
	}
	header := regexp.MustCompile(`// func (\w+)\(.*\n// Requires: (.*)\n`)
	functions := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range header.FindAllStringSubmatch(string(text), -1) {
			functions++
			set := "AVX2"
			for _, suffix := range []string{"AVX512", "AVX512BF16"} {
				if strings.HasSuffix(m[1], suffix) {
					set = suffix
				}
			}
			have := strings.Fields(declared[set])
			if file == "expand_amd64.s" { // expandVBMI2 asks for these besides
				have = append(have, "AVX512BW", "AVX512VBMI", "AVX512_VBMI2", "AVX512VPOPCNTDQ", "BMI2", "POPCNT")
			}
			for _, need := range strings.Split(m[2], ", ") {
				if !slices.Contains(have, need) {
					t.Errorf("%s: %s requires %s, which is not asked for", file, m[1], need)
				}
			}
		}
	}
	if functions < 40 {
		t.Errorf("only %d functions found", functions)
	}
}

func TestPeak(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		if got := PeakGFLOPS(10*time.Millisecond, 1); !(got > 0.1 && got < 1e4) {
			t.Errorf("peak of %g GFLOP/s", got)
		}
		if got := PeakBF16GFLOPS(10*time.Millisecond, 1); NativeBF16() != (got > 0.1 && got < 1e4) {
			t.Errorf("bf16 peak of %g GFLOP/s", got)
		}
	})
}

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/cpu"

	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/mount"
	"besa/native"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"besa": func() { os.Exit(mainCode()) }})
}

// TestScripts runs the tool as users see it: testdata/script states exit
// codes, output, and which files must not exist after a failure.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("NO_COLOR", "1")
			env.Setenv("LONG", strings.TrimSuffix(strings.Repeat("a-folder-in-a-folder/", 20), "/"))
			env.Setenv("NAME300", strings.Repeat("n", 300))
			if path, ok := assets.Lookup(assets.GGUFSplit); ok {
				env.Setenv("GGUF_SPLIT", path)
			}
			if path, ok := assets.Lookup(assets.Imatrix); ok {
				env.Setenv("LLAMA_IMATRIX", path)
			}
			if dir, ok := assets.Lookup(assets.Llama); ok {
				env.Setenv("BESA_LLAMA_LIB", dir)
			}
			for name, data := range map[string][]byte{
				"model.gguf": demomodel.Model(),
				"calib.txt":  []byte(demomodel.Calibration()),
				"eval.txt":   []byte(demomodel.Evaluation()),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o644); err != nil {
					return err
				}
			}
			return writeDocuments(env.WorkDir)
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exitcode":  cmdExitCode,
			"oneline":   cmdOneLine,
			"truncate":  cmdTruncate,
			"damage":    cmdDamage,
			"poke":      cmdPoke,
			"swap":      cmdSwap,
			"nofiles":   cmdNoFiles,
			"maxrss":    cmdMaxRSS,
			"samebytes": cmdSameBytes,
			"samefield": cmdSameField,
			"samereads": cmdSameReads,
			"waitfor":   cmdWaitFor,
		},
	})
}

// writeDocuments writes the same documents as JSON lines and as Parquet, and a
// longer text into the folder texts.
func writeDocuments(dir string) error {
	type document struct {
		Text string `parquet:"text,zstd" json:"text"`
		Body string `parquet:"body" json:"body"`
	}
	verses := strings.Split(demomodel.Calibration(), "\n")[:60]
	var rows []document
	var lines []byte
	for i := range 6 {
		d := document{strings.Join(verses[10*i:10*i+5], " "), strings.Join(verses[10*i+5:10*i+10], " ")}
		rows = append(rows, d)
		line, err := json.Marshal(d)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	return errors.Join(
		parquet.WriteFile(filepath.Join(dir, "documents.parquet"), rows),
		os.WriteFile(filepath.Join(dir, "documents.jsonl"), lines, 0o644),
		os.MkdirAll(filepath.Join(dir, "texts"), 0o755),
		os.WriteFile(filepath.Join(dir, "texts", "a.txt"), []byte(demomodel.Calibration()[:4000]), 0o644),
	)
}

// condition knows [llama], [gguf-split] and [llama-imatrix]: whether llama.cpp's
// library and those programs are there, [fuse]: whether this machine can mount (it must with
// BESA_TEST_REQUIRE_FUSE=1), [cc]: whether it has a C compiler, [vbmi2]: whether
// it runs the native plugin's kernels.
func condition(name string) (bool, error) {
	switch name {
	case "llama":
		_, ok := assets.Lookup(assets.Llama)
		return ok, nil
	case "gguf-split":
		_, ok := assets.Lookup(assets.GGUFSplit)
		return ok, nil
	case "llama-imatrix":
		_, ok := assets.Lookup(assets.Imatrix)
		return ok, nil
	case "fuse":
		return canMount()
	case "cc":
		_, err := native.Compiler()
		return err == nil, nil
	case "vbmi2":
		return cpu.X86.HasAVX512VBMI2, nil
	}
	return false, fmt.Errorf("condition %q is not known", name)
}

func canMount() (bool, error) {
	dir, err := os.MkdirTemp("", "besa-fuse-*")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	m, err := mount.New(dir, mount.File{Name: "x", Data: strings.NewReader("")}, mount.Options{})
	if os.Getenv("BESA_TEST_REQUIRE_FUSE") != "1" && errors.Is(err, mount.ErrUnavailable) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, m.Unmount()
}

// cmdWaitFor waits until a file is there: waitfor FILE
func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	for range 200 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s does not appear", args[0])
}

// cmdExitCode runs a program and demands its exit code: exitcode N PROGRAM ARGS…
func cmdExitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// cmdOneLine demands that stderr of the last command is one line.
func cmdOneLine(ts *testscript.TestScript, _ bool, _ []string) {
	if text := ts.ReadFile("stderr"); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "besa: ") {
		ts.Fatalf("stderr is not one line of besa's: %q", text)
	}
}

// cmdTruncate writes the first N bytes of a file: truncate FROM TO N
func cmdTruncate(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data[:n], 0o644))
}

// cmdPoke copies a file with a little-endian 64-bit number at an offset: poke FROM TO OFFSET VALUE
func cmdPoke(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	offset, err := strconv.Atoi(args[2])
	ts.Check(err)
	value, err := strconv.ParseUint(args[3], 0, 64)
	ts.Check(err)
	binary.LittleEndian.PutUint64(data[offset:], value)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

// cmdSwap copies a file with one string replaced by another of the same length: swap FROM TO OLD NEW
func cmdSwap(ts *testscript.TestScript, _ bool, args []string) {
	data := strings.ReplaceAll(ts.ReadFile(args[0]), args[2], args[3])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(data), 0o644))
}

// cmdNoFiles demands that no file matches a pattern: nofiles PATTERN…
func cmdNoFiles(ts *testscript.TestScript, _ bool, args []string) {
	for _, pattern := range args {
		found, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(found) > 0 {
			ts.Fatalf("files are left behind: %v", found)
		}
	}
}

// cmdMaxRSS demands that no child process so far has used more than N MiB.
func cmdMaxRSS(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := strconv.Atoi(args[0])
	ts.Check(err)
	if mib := childrenRSS() >> 20; mib > int64(limit) {
		ts.Fatalf("a command used %d MiB, more than %d", mib, limit)
	}
}

// cmdSameBytes demands that files are equal: samebytes A B
func cmdSameBytes(ts *testscript.TestScript, neg bool, args []string) {
	if same := ts.ReadFile(args[0]) == ts.ReadFile(args[1]); same == neg {
		ts.Fatalf("%s and %s: equal is %v", args[0], args[1], same)
	}
}

// cmdSameField demands that a field of two JSON documents is equal: samefield A B FIELD
func cmdSameField(ts *testscript.TestScript, _ bool, args []string) {
	var values [2]map[string]any
	for i := range values {
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[i])), &values[i]))
		if values[i][args[2]] == nil {
			ts.Fatalf("%s has no field %q", args[i], args[2])
		}
	}
	if a, b := values[0][args[2]], values[1][args[2]]; a != b {
		ts.Fatalf("%s is %v and %v", args[2], a, b)
	}
}

// cmdSameReads demands that random reads of a file, by several readers at once and
// over its end, too, give what another has there: samereads FILE WHOLE READS
func cmdSameReads(ts *testscript.TestScript, _ bool, args []string) {
	whole := []byte(ts.ReadFile(args[1]))
	reads, err := strconv.Atoi(args[2])
	ts.Check(err)
	file, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer file.Close()
	const readers = 4
	errs := make(chan error, readers)
	for reader := range uint64(readers) {
		go func() { errs <- randomReads(file, whole, rand.New(rand.NewPCG(reader, 1)), reads/readers) }()
	}
	for range readers {
		if e := <-errs; e != nil {
			err = e
		}
	}
	if err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// randomReads reads from one byte to about as many as the file has, all sizes
// being as likely.
func randomReads(file io.ReaderAt, whole []byte, r *rand.Rand, n int) error {
	buf := make([]byte, len(whole))
	for range n {
		off, size := r.IntN(len(whole)), 1<<r.IntN(bits.Len(uint(len(whole))))
		p := buf[:1+r.IntN(size)]
		want := whole[off:min(off+len(p), len(whole))]
		got, err := file.ReadAt(p, int64(off))
		if !bytes.Equal(p[:got], want) || (err != nil) != (got < len(p)) || err != nil && err != io.EOF {
			return fmt.Errorf("%d bytes at %d: %d read (%v), and not what is there", len(p), off, got, err)
		}
	}
	return nil
}

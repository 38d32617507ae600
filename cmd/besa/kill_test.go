package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"besa/internal/demomodel"
)

// kills is how often TestSurvivesBeingKilled kills a conversion.
const kills = 24

// TestSurvivesBeingKilled kills conversions (SIGKILL) at random moments and
// starts them again until they are done: the file must be the one that an
// undisturbed conversion writes, and nothing else may be left.
func TestSurvivesBeingKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{"model.gguf": demomodel.Model(), "calib.txt": []byte(demomodel.Calibration()[:20000])} {
		if err := os.WriteFile(path(name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	convert := func(output string) (*exec.Cmd, *bytes.Buffer) {
		var out, messages bytes.Buffer
		// TestMain makes the test binary the tool when it is called so.
		return &exec.Cmd{
			Path: program, Dir: dir, Stdout: &out, Stderr: &messages,
			Args: []string{"besa", "convert", "--quiet", "--json", "--joint-q4", "--threads", "2", "--calib", "calib.txt",
				"--calib-samples", "4", "--calib-len", "32", "model.gguf", "-o", output},
		}, &out
	}
	started := time.Now()
	whole, _ := convert("whole.gguf")
	if err := whole.Run(); err != nil {
		t.Fatal(err)
	}
	usual := time.Since(started)
	want, err := os.ReadFile(path("whole.gguf"))
	if err != nil {
		t.Fatal(err)
	}

	rng := rand.New(rand.NewPCG(24, 7))
	killed, resumed, rounds := 0, 0, 0
	for killed < kills || rounds == 0 {
		c, out := convert("out.gguf")
		started := time.Now()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if killed < kills {
			timer := time.AfterFunc(time.Duration(rng.Float64()*float64(usual)), func() { _ = c.Process.Kill() })
			defer timer.Stop()
		}
		if err := c.Wait(); err != nil {
			switch code := c.ProcessState.ExitCode(); {
			case code == exitRefused: // it was killed when all was done: the output exists
				checkKilled(t, dir, want)
			case code >= 0:
				t.Fatalf("after %d kills: %v", killed, err)
			}
			killed++
			continue
		}
		var report struct {
			Resumed int `json:"blocks_resumed"`
		}
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		resumed += report.Resumed
		rounds++
		usual = min(usual, time.Since(started)) // on a busy machine the first one says little
		checkKilled(t, dir, want)
	}
	t.Logf("%d kills, %d conversions completed, their last runs continued after %d blocks", killed, rounds, resumed)
	if resumed == 0 {
		t.Error("no conversion was continued: the test shows nothing")
	}
}

// TestInterruptedConversionSaysHowToGoOn cancels a conversion after its first block.
func TestInterruptedConversionSaysHowToGoOn(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, data := range map[string][]byte{"model.gguf": demomodel.Model(), "calib.txt": []byte(demomodel.Calibration())} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if log, _ := os.ReadFile("out.gguf.besa-journal/log"); bytes.Count(log, []byte("\n")) > 1 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var out, messages bytes.Buffer
	args := []string{"convert", "--quiet", "--calib", "calib.txt", "--calib-samples", "32", "--calib-len", "64", "model.gguf", "-o", "out.gguf"}
	std := streams{in: &out, out: &out, err: &messages}
	if code := run(ctx, args, std); code != exitInterrupted {
		t.Fatalf("exit code %d: %s", code, &messages)
	}
	const want = "besa: interrupted; 1 of 4 blocks are kept in out.gguf.besa-journal, and the same command continues with the next\n"
	if messages.String() != want {
		t.Errorf("it says %q", &messages)
	}
	messages.Reset()
	if code := run(t.Context(), append(args, "--seed", "5"), std); code != exitRefused || !strings.Contains(messages.String(), "seed (0 then, 5 now)") {
		t.Errorf("another seed: exit code %d: %s", code, &messages)
	}
	if code := run(t.Context(), args, std); code != exitFine {
		t.Errorf("continued: exit code %d: %s", code, &messages)
	}
}

// checkKilled compares the output with the bytes wanted and removes it.
func checkKilled(t *testing.T, dir string, want []byte) {
	t.Helper()
	path := filepath.Join(dir, "out.gguf")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("another file than without being killed")
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 4 { // model, text, both outputs
		t.Fatalf("left behind: %v", left)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

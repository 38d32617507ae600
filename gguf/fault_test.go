//go:build unix

package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// faultyDisk fails at the n-th thing that is asked of it, counted from 1, with
// err; a write that fails has written half.
type faultyDisk struct {
	osDisk
	err   error
	at, n int
	step  string // what failed
}

func (d *faultyDisk) fails(step string) error {
	if d.n++; d.n == d.at {
		d.step = step
		return &os.PathError{Op: step, Path: "path", Err: d.err}
	}
	return nil
}

func (d *faultyDisk) create(dir string, size int64) (tempFile, error) {
	if err := d.fails("create"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.create(dir, size)
	return &faultyFile{f, d}, err
}

func (d *faultyDisk) rename(from, to string) error {
	if err := d.fails("rename"); err != nil {
		return err
	}
	return d.osDisk.rename(from, to)
}

func (d *faultyDisk) setAside(from, to string) (func(), error) {
	if err := d.fails("set aside"); err != nil {
		return nil, err
	}
	return d.osDisk.setAside(from, to)
}

func (d *faultyDisk) syncDir(dir string) error {
	if err := d.fails("sync directory"); err != nil {
		return err
	}
	return d.osDisk.syncDir(dir)
}

type faultyFile struct {
	tempFile
	d *faultyDisk
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.d.fails("write"); err != nil {
		n, _ := f.tempFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.tempFile.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.d.fails("sync"); err != nil {
		return err
	}
	return f.tempFile.Sync()
}

func (f *faultyFile) Close() error {
	if err := f.d.fails("close"); err != nil {
		return errors.Join(err, f.tempFile.Close())
	}
	return f.tempFile.Close()
}

// writeModel writes plainTensors, the first in one piece, the second in chunks.
func writeModel(d disk, path string, maxBytes uint64) error {
	w, err := create(d, path, maxBytes, plainKVs(), plainTensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.WriteTensor("a", bytes.Repeat([]byte{1}, 12)); err != nil {
		return err
	}
	if err := chunks(w, "b", bytes.Repeat([]byte{2}, 100), bytes.Repeat([]byte{3}, 36)); err != nil {
		return err
	}
	return w.Commit()
}

// contents reads all files of a folder, hidden ones included.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range entries(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	return files
}

// Whatever step of writing fails, be it a model in one file or in parts, the
// error names the file and the cause, what was there is untouched, and nothing
// is left behind. Only when the new names could not be made durable are they
// there already.
func TestEveryStepMayFail(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, c := range []struct {
			name     string
			maxBytes uint64
			names    []string
		}{
			{"one file", 0, []string{"m.gguf"}},
			{"parts", 64, []string{"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}},
		} {
			for _, existing := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, existing %v, %v", c.name, existing, fault), func(t *testing.T) {
					everyStep(t, fault, c.maxBytes, c.names, existing)
				})
			}
		}
	}
}

func everyStep(t *testing.T, fault error, maxBytes uint64, names []string, existing bool) {
	steps := map[string]bool{}
	for at := 1; ; at++ {
		dir := t.TempDir()
		if existing {
			for _, name := range names {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("old "+name), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := contents(t, dir)
		d := &faultyDisk{err: fault, at: at}
		err := writeModel(d, filepath.Join(dir, "m.gguf"), maxBytes)
		after := contents(t, dir)
		if d.step == "" { // every step has had its turn
			if err != nil || !slices.Equal(slices.Sorted(maps.Keys(after)), names) {
				t.Fatalf("without a fault: %v, files %q", err, slices.Sorted(maps.Keys(after)))
			}
			break
		}
		steps[d.step] = true
		if !errors.Is(err, fault) || !strings.Contains(err.Error(), filepath.Join(dir, "m")) {
			t.Errorf("fault %d (%s): error %v", at, d.step, err)
		}
		if f, err := Open(filepath.Join(dir, names[0])); err == nil {
			f.Close()
			if d.step != "sync directory" {
				t.Errorf("fault %d (%s): the new model is in place", at, d.step)
			}
			if got := slices.Sorted(maps.Keys(after)); !slices.Equal(got, names) {
				t.Errorf("fault %d (%s): files %q", at, d.step, got)
			}
			continue
		}
		if !maps.Equal(before, after) {
			t.Errorf("fault %d (%s): before %q, after %q", at, d.step, slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
		}
	}
	for _, want := range []string{"create", "write", "sync", "close", "rename", "sync directory"} {
		if !steps[want] {
			t.Errorf("step %q never failed", want)
		}
	}
}

// What a killed writer left is removed by the next one in that folder, but not
// what is young, in use, or somebody else's.
func TestLeftoversAreSwept(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour)
	put := func(name string, at time.Time) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o666), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	put(".gguf-00000001.tmp", old)
	put(".gguf-00000002.tmp.old", old)
	put(".gguf-00000003.tmp", time.Now())
	put(".gguf-4.tmp", old)
	put("mine.tmp", old)
	w, err := Create(filepath.Join(dir, "a.gguf"), nil, plainTensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := os.Chtimes(w.files[0].temp, old, old); err != nil {
		t.Fatal(err)
	}
	if err := writeModel(osDisk{}, filepath.Join(dir, "b.gguf"), 0); err != nil {
		t.Fatal(err)
	}
	want := []string{".gguf-00000003.tmp", ".gguf-4.tmp", filepath.Base(w.files[0].temp), "b.gguf", "mine.tmp"}
	slices.Sort(want)
	if got := entries(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

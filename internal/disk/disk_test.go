package disk

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second holder: %v", err)
	}
	if err := a.Release(false); err != nil {
		t.Fatal(err)
	}
	b, err := Acquire(path)
	if err != nil {
		t.Fatalf("after its release: %v", err)
	}
	if err := b.Release(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestScratchHasNoName(t *testing.T) {
	dir := t.TempDir()
	s, err := NewScratch(t.Context(), dir, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); runtime.GOOS != "windows" && len(left) > 0 {
		t.Errorf("it has a name: %v", left)
	}
	if info, err := s.Stat(); err != nil || info.Size() != 3<<20 {
		t.Errorf("size %v, %v", info, err)
	}
	if _, err := s.WriteAt([]byte("end"), 3<<20-3); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReserveRefusesWhatTheDiskDoesNotHave(t *testing.T) {
	dir := t.TempDir()
	free, known := Free(dir)
	if !known {
		t.Skip("this system does not say how much is free")
	}
	if _, err := NewScratch(t.Context(), dir, 2*free+1<<40); err == nil {
		t.Error("more than the disk's free space is granted")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := WriteFile(path, []byte("one "), nil, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one two" {
		t.Errorf("%q, %v", got, err)
	}
	if err := WriteFile(filepath.Join(path, "below a file"), []byte("x")); err == nil {
		t.Error("written below a file")
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		t.Error(err)
	}
}

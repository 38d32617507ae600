//go:build linux

package mount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// testFile has 3 MB of bytes that depend on their place.
func testFile() (File, []byte) {
	b := make([]byte, 3e6+7)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return File{Name: "model.gguf", Size: int64(len(b)), ModTime: time.Unix(1e9, 5000), Data: bytes.NewReader(b)}, b
}

// mounted mounts f. Where that is not possible the test is skipped, or fails
// with BESA_TEST_REQUIRE_FUSE=1.
func mounted(t *testing.T, f File, o Options) *Mount {
	t.Helper()
	m, err := New(t.TempDir(), f, o)
	if errors.Is(err, ErrUnavailable) && os.Getenv("BESA_TEST_REQUIRE_FUSE") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMountedFile(t *testing.T) {
	f, want := testFile()
	m := mounted(t, f, Options{})
	info, err := os.Stat(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != f.Size || !info.ModTime().Equal(f.ModTime) || info.Mode() != 0o444 {
		t.Errorf("%v, size %d, changed %v", info.Mode(), info.Size(), info.ModTime())
	}
	for range 2 { // from us, then from the page cache
		if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	file, err := os.Open(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var wg sync.WaitGroup
	for g := range int64(4) {
		wg.Go(func() {
			p := make([]byte, 5000)
			for off := g * 777; off < f.Size; off += 40009 {
				n, err := file.ReadAt(p, off)
				if !bytes.Equal(p[:n], want[off:min(off+5000, f.Size)]) || n < len(p) && err != io.EOF {
					t.Errorf("at %d: %d bytes, %v", off, n, err)
				}
			}
		})
	}
	wg.Wait()
}

// counted counts the bytes that are asked for.
type counted struct {
	io.ReaderAt
	bytes atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes.Add(int64(n))
	return n, err
}

// What was read once comes from the system's cache, also for a program that
// maps the file, and after it was closed in between.
func TestReadOnce(t *testing.T) {
	f, want := testFile()
	data := &counted{ReaderAt: f.Data}
	f.Data = data
	m := mounted(t, f, Options{})
	for range 3 {
		if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	file, err := os.Open(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mapped, err := syscall.Mmap(int(file.Fd()), 0, len(want), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mapped, want) {
		t.Error("mapped, the file has other bytes")
	}
	if err := syscall.Munmap(mapped); err != nil {
		t.Error(err)
	}
	if n := data.bytes.Load(); n != f.Size {
		t.Errorf("%d bytes were generated for a file of %d that was read four times", n, f.Size)
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	f, _ := testFile()
	m := mounted(t, f, Options{})
	dir := filepath.Dir(m.Path())
	for name, err := range map[string]error{
		"write":    onlyErr(os.OpenFile(m.Path(), os.O_RDWR, 0)),
		"truncate": os.Truncate(m.Path(), 0),
		"create":   onlyErr(os.Create(filepath.Join(dir, "new"))),
		"remove":   os.Remove(m.Path()),
		"mkdir":    os.Mkdir(filepath.Join(dir, "sub"), 0o777),
	} {
		if err == nil {
			t.Errorf("%s is possible", name)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || entries[0].Name() != f.Name {
		t.Errorf("%v, %v", entries, err)
	}
}

func onlyErr(f *os.File, err error) error {
	if err == nil {
		f.Close()
	}
	return err
}

type brokenData struct{}

var errBroken = errors.New("broken")

func (brokenData) ReadAt(p []byte, off int64) (int, error) { return 0, errBroken }

// An error of the data is one of reading, and is told.
func TestDamage(t *testing.T) {
	told := make(chan error, 100)
	m := mounted(t, File{Name: "x", Size: 100, Data: brokenData{}}, Options{OnError: func(err error) { told <- err }})
	if _, err := os.ReadFile(m.Path()); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if err := <-told; !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

func TestBusy(t *testing.T) {
	f, _ := testFile()
	m := mounted(t, f, Options{})
	file, err := os.Open(m.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); !errors.Is(err, ErrBusy) {
		t.Errorf("unmounted while in use: %v", err)
	}
	if n, err := file.ReadAt(make([]byte, 10), 0); n != 10 {
		t.Errorf("no more reading: %v", err)
	}
	file.Close()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	m.Wait()
}

// What is unmounted from outside is gone, and unmounting it again no error.
func TestUnmountedFromOutside(t *testing.T) {
	f, _ := testFile()
	m := mounted(t, f, Options{})
	if err := syscall.Unmount(filepath.Dir(m.Path()), 0); err != nil {
		t.Skip(err) // only root may, without the helper
	}
	m.Wait()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}

// A process that was killed leaves a directory that answers nothing; the next
// mount clears it away.
func TestMountOfADeadProcess(t *testing.T) {
	const dirOf = "BESA_TEST_MOUNT_AND_DIE"
	f, want := testFile()
	if dir := os.Getenv(dirOf); dir != "" {
		if _, err := New(dir, f, Options{}); err != nil {
			t.Fatal(err)
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	mounted(t, f, Options{}) // skips where there is no FUSE
	dir := filepath.Join(t.TempDir(), `a dir with \ in it`)
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestMountOfADeadProcess$")
	c.Env = append(os.Environ(), dirOf+"="+dir)
	if out, err := c.CombinedOutput(); err == nil || c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.ReadDir(dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("the dead mount answers %v", err)
	}
	m, err := New(dir, f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(m.Path()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
}

func TestDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file, filepath.Join(dir, "absent")} {
		if _, err := New(path, File{Name: "x"}, Options{}); !errors.Is(err, ErrDirectory) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestWithoutFUSE(t *testing.T) {
	old := device
	defer func() { device = old }()
	device = filepath.Join(t.TempDir(), "absent")
	if _, err := New(t.TempDir(), File{Name: "x"}, Options{}); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func TestWithoutHelper(t *testing.T) {
	old := helpers
	defer func() { helpers = old }()
	helpers = []string{"no-such-program"}
	if _, err := helperProgram(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "install the package fuse3") {
		t.Error(err)
	}
}

// The nodes by themselves, for machines without FUSE.
func TestNodes(t *testing.T) {
	f, want := testFile()
	root := &rootNode{file: f}
	fs.NewNodeFS(root, &fs.Options{})
	child := root.GetChild(f.Name)
	if child == nil {
		t.Fatal("no file in the directory")
	}
	node := child.Operations().(*fileNode)
	ctx := context.Background()
	var attr fuse.AttrOut
	if errno := node.Getattr(ctx, nil, &attr); errno != 0 || attr.Size != uint64(f.Size) || attr.Mode != syscall.S_IFREG|0o444 || attr.Mtime != 1e9 {
		t.Errorf("%v, %+v", errno, attr)
	}
	if errno := root.Getattr(ctx, nil, &attr); errno != 0 || attr.Mode != syscall.S_IFDIR|0o555 {
		t.Errorf("%v, %+v", errno, attr)
	}
	if _, flags, errno := node.Open(ctx, syscall.O_RDONLY); errno != 0 || flags&fuse.FOPEN_KEEP_CACHE == 0 || flags&fuse.FOPEN_DIRECT_IO != 0 {
		t.Errorf("open: %v, flags %#x", errno, flags)
	}
	if _, _, errno := node.Open(ctx, syscall.O_RDWR); errno != syscall.EROFS {
		t.Errorf("open for writing: %v", errno)
	}
	for _, off := range []int64{0, 12345, f.Size - 10, f.Size} {
		r, errno := node.Read(ctx, nil, make([]byte, 4096), off)
		if errno != 0 {
			t.Fatal(errno)
		}
		if got, _ := r.Bytes(nil); !bytes.Equal(got, want[off:min(off+4096, f.Size)]) {
			t.Errorf("at %d: %d bytes", off, len(got))
		}
	}
}

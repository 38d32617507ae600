//go:build linux || darwin || freebsd

package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount is a directory with one file in it, served by this process.
type Mount struct {
	server *fuse.Server
	gone   chan struct{} // closed when the directory is unmounted
	dir    string
	path   string
}

// forever is how long the kernel may believe what it was told: nothing changes.
const forever = 365 * 24 * time.Hour

// maxRead is the most that the kernel asks for at once, in bytes.
const maxRead = 1 << 20

// New mounts f in dir, an empty directory, and serves it in the background.
func New(dir string, f File, o Options) (*Mount, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := available(); err != nil {
		return nil, err
	}
	timeout := forever
	server, err := fs.Mount(dir, &rootNode{file: f, onError: o.OnError}, &fs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, NegativeTimeout: &timeout,
		MountOptions: fuse.MountOptions{
			FsName: "besa", Name: "besa", Options: []string{"ro"}, AllowOther: o.AllowOther,
			DirectMount: true, // without the helper program, where that is allowed
			MaxWrite:    maxRead, MaxReadAhead: maxRead, DisableXAttrs: true,
			Logger: log.New(io.Discard, "", 0),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: mount on %s: %w", ErrUnavailable, dir, trimmed(err))
	}
	m := &Mount{server, make(chan struct{}), dir, filepath.Join(dir, f.Name)}
	go func() {
		server.Wait()
		close(m.gone)
	}()
	return m, nil
}

// Path is the file's name.
func (m *Mount) Path() string { return m.path }

// Wait returns when the directory has been unmounted, by whomever.
func (m *Mount) Wait() { <-m.gone }

// Unmount takes the file away, or fails with ErrBusy while it is in use. What
// is unmounted already is no error.
func (m *Mount) Unmount() error {
	err := unmount(m.dir, m.gone)
	switch {
	case err == nil:
		m.Wait()
		return nil
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%w: %s", ErrBusy, m.dir)
	}
	// What this user may not do, the helper program may.
	switch err = m.server.Unmount(); {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "busy"): // so it says
		return fmt.Errorf("%w: %s", ErrBusy, m.dir)
	}
	return fmt.Errorf("unmount %s: %w", m.dir, trimmed(err))
}

// unmount is the system call, a few times while the kernel still closes files,
// unless it has happened already.
func unmount(dir string, gone <-chan struct{}) error {
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		select {
		case <-gone:
			return nil
		default:
		}
		err := syscall.Unmount(dir, 0)
		if !errors.Is(err, syscall.EBUSY) || wait > 40*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// trimmed makes one line of what the helper program says.
func trimmed(err error) error {
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}

func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, syscall.ENOTCONN) && removeStale(dir) {
		entries, err = os.ReadDir(dir)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: the directory %s does not exist; make it first", ErrDirectory, dir)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s is no directory", ErrDirectory, dir)
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%w: %s is left from a mount whose program died; run: %s", ErrDirectory, dir, UnmountCommand(dir, true))
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%w: the directory %s is not empty", ErrDirectory, dir)
	}
	return nil
}

// device and helpers are what FUSE needs on Linux.
var (
	device  = "/dev/fuse"
	helpers = []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"}
)

// available says what is missing for FUSE on Linux, as far as that shows
// beforehand.
func available() error {
	if runtime.GOOS != "linux" {
		return nil
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %s is missing; load the kernel's module (modprobe fuse), or give the container the device", ErrUnavailable, device)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: no permission to use %s", ErrUnavailable, device)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	f.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	_, err = helperProgram()
	return err
}

// helperProgram is the program that mounts and unmounts for those who may not.
func helperProgram() (string, error) {
	for _, name := range helpers {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: the program fusermount3 is missing; install the package fuse3", ErrUnavailable)
}

// rootNode is the directory.
type rootNode struct {
	fs.Inode
	file    File
	onError func(error)
}

var (
	_ fs.NodeOnAdder   = (*rootNode)(nil)
	_ fs.NodeGetattrer = (*rootNode)(nil)
	_ fs.NodeGetattrer = (*fileNode)(nil)
	_ fs.NodeOpener    = (*fileNode)(nil)
	_ fs.NodeReader    = (*fileNode)(nil)
)

// OnAdd puts the file into the directory.
func (r *rootNode) OnAdd(ctx context.Context) {
	child := r.NewPersistentInode(ctx, &fileNode{root: r}, fs.StableAttr{Mode: syscall.S_IFREG})
	r.AddChild(r.file.Name, child, false)
}

// Getattr implements fs.NodeGetattrer.
func (r *rootNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.fill(out, syscall.S_IFDIR|0o555)
	return 0
}

// fill sets what is common to the directory and the file.
func (r *rootNode) fill(out *fuse.AttrOut, mode uint32) {
	out.Mode, out.Nlink = mode, 1
	out.SetTimes(&r.file.ModTime, &r.file.ModTime, &r.file.ModTime)
	out.Owner = fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
}

// fileNode is the file.
type fileNode struct {
	fs.Inode
	root *rootNode
}

// Getattr implements fs.NodeGetattrer.
func (n *fileNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.root.fill(out, syscall.S_IFREG|0o444)
	out.Size = uint64(n.root.file.Size)
	out.Blksize = 4096
	out.Blocks = (out.Size + 511) / 512
	return 0
}

// Open implements fs.NodeOpener. The page cache outlives the opening.
func (n *fileNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		return nil, 0, syscall.EROFS
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// Read implements fs.NodeReader.
func (n *fileNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	k, err := n.root.file.Data.ReadAt(dest, off)
	if err != nil && err != io.EOF {
		if n.root.onError != nil {
			n.root.onError(err)
		}
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(dest[:k]), 0
}

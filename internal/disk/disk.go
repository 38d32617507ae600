// Package disk does what operating systems do differently with files: locks,
// space taken in advance, scratch files that leave nothing behind, and names
// that survive a crash.
//
// In: paths and open files. Out: errors of package os or syscall, which say
// what failed; callers add what it was for.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("in use by another process")

// Lock is a file that one process at a time holds. The system lets go of it
// when the process ends, however it ends.
type Lock struct{ file *os.File }

// Acquire locks the file at path, which it makes if there is none. It does not
// wait: where another process holds it the error is ErrLocked.
func Acquire(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lock(f); err != nil {
			f.Close()
			return nil, err
		}
		// Whoever held it may have removed the file between the two steps.
		held, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if named, err := os.Stat(path); err == nil && os.SameFile(held, named) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

// Release removes the file, if that is asked for, and lets go of it.
func (l *Lock) Release(remove bool) error {
	var err error
	if remove {
		err = removeOpen(l.file)
	}
	if closing := l.file.Close(); !errors.Is(closing, os.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

// Reserve takes size bytes of space for f, so that a full disk is an error now
// and not when f is written to.
func Reserve(ctx context.Context, f *os.File, size int64) error {
	// Some file systems find out by filling the disk, at everybody's cost.
	if free, known := Free(filepath.Dir(f.Name())); known && size > free {
		return &os.PathError{Op: "reserve", Path: f.Name(), Err: syscall.ENOSPC}
	}
	done, err := allocate(f, size)
	if done || err != nil {
		return err
	}
	// A file system that cannot allocate takes space when it is written to.
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// Scratch is a file without a name, on systems that have such files: nothing
// of it is left when the process ends, however it ends.
type Scratch struct {
	*os.File
	named bool
}

// NewScratch makes a scratch file in dir and reserves size bytes for it.
func NewScratch(ctx context.Context, dir string, size int64) (*Scratch, error) {
	f, err := os.CreateTemp(dir, ".besa-scratch-*")
	if err != nil {
		return nil, err
	}
	s := &Scratch{File: f, named: os.Remove(f.Name()) != nil}
	if err := Reserve(ctx, f, size); err != nil {
		return nil, errors.Join(fmt.Errorf("%d bytes in %s: %w", size, dir, err), s.Close())
	}
	return s, nil
}

// Close lets go of the file and its space.
func (s *Scratch) Close() error {
	err := s.File.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}

// WriteFile writes a file and makes its content durable; its name is not
// until SyncDir. When it fails, nothing is left.
func WriteFile(path string, parts ...[]byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	for _, p := range parts {
		if _, err := f.Write(p); err != nil {
			return err
		}
	}
	return f.Sync()
}

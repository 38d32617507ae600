package gguf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// disk is what a [Writer] asks of the file system. Tests put one in its place
// that fails where they want it to.
type disk interface {
	// create makes a temporary file in dir and reserves its space.
	create(dir string, size int64) (tempFile, error)
	rename(from, to string) error
	// setAside renames a file that is to be replaced and keeps others from
	// sweeping it until release is called.
	setAside(from, to string) (release func(), err error)
	remove(name string) error
	syncDir(dir string) error
	// sweep removes from dir what writers left that died.
	sweep(dir string)
}

// tempFile is the part of os.File that is used.
type tempFile interface {
	io.Writer
	Name() string
	Sync() error
	Close() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) remove(name string) error     { return os.Remove(name) }
func (osDisk) syncDir(dir string) error     { return syncDir(dir) }

func (osDisk) setAside(from, to string) (release func(), err error) {
	release = func() {}
	if f, err := os.Open(from); err == nil {
		if lock(f) == nil {
			release = func() { f.Close() }
		} else {
			f.Close()
		}
	}
	if err := os.Rename(from, to); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (osDisk) create(dir string, size int64) (tempFile, error) {
	f, err := createTemp(dir)
	if err != nil {
		return nil, err
	}
	if err := reserve(f, size); err != nil {
		f.Close()
		return nil, errors.Join(fmt.Errorf("reserve %d bytes: %w", size, err), os.Remove(f.Name()))
	}
	return f, nil
}

const (
	// tempPattern is what temporary files are called: names of their own
	// length, since the target's may be as long as allowed.
	tempPattern = ".gguf-????????.tmp"
	// asideSuffix is added to it for a file that is about to be replaced.
	asideSuffix = ".old"
	// sweepAge is how old a temporary file must be before another writer may
	// take it for one that nobody needs.
	sweepAge = time.Minute
)

// createTemp creates a file in dir under a name nobody uses. In contrast to
// os.CreateTemp the umask alone decides who may read it. The lock tells other
// writers that it is in use.
func createTemp(dir string) (*os.File, error) {
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf(".gguf-%08x.tmp", rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		_ = lock(f) // a file system without locks has no sweeping either
		return f, nil
	}
	return nil, errors.New("no free name for a temporary file")
}

// sweep removes temporary files, and files set aside, that no process holds a
// lock on: a writer that was killed left them. Whatever fails here does not
// matter to the writer at hand.
func (osDisk) sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		ours, _ := filepath.Match(tempPattern, strings.TrimSuffix(e.Name(), asideSuffix))
		info, err := e.Info()
		if !ours || err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if lock(f) == nil {
			_ = os.Remove(name)
		}
		f.Close()
	}
}

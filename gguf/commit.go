package gguf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Commit flushes the file to the disk and puts it in its place, replacing what
// was there in one step. All tensors must have been written. When it fails,
// nothing is left, unless all that failed was to make the new name durable.
func (w *Writer) Commit() error {
	err := w.err
	switch {
	case err != nil:
	case w.next < len(w.tensors):
		err = fmt.Errorf("%d of %d tensors are missing, first %q",
			len(w.tensors)-w.next, len(w.tensors), w.tensors[w.next].Name)
	default:
		err = w.seal()
	}
	if err != nil {
		if abortErr := w.Abort(); abortErr != nil {
			err = errors.Join(err, abortErr)
		}
		return fmt.Errorf("%s: %w", w.path, err)
	}
	w.err = errDone
	return nil
}

// seal makes the temporary file durable and renames it.
func (w *Writer) seal() error {
	if err := w.buf.Flush(); err != nil {
		return withoutPath(err)
	}
	if err := w.file.Sync(); err != nil {
		return withoutPath(err)
	}
	// Not the file's size: space may have been reserved.
	end, err := w.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return withoutPath(err)
	}
	if end != w.size {
		return fmt.Errorf("internal error: %d bytes written, %d planned", end, w.size)
	}
	if err := w.file.Close(); err != nil {
		return withoutPath(err)
	}
	if err := os.Rename(w.temp, w.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(w.path))
}

// Abort removes the temporary file. After Commit, or a second time, it does
// nothing: it can be deferred.
func (w *Writer) Abort() error {
	if errors.Is(w.err, errDone) {
		return nil
	}
	w.err = errDone
	// Closing twice is harmless and what Commit failed on may be the closing.
	_ = w.file.Close()
	if err := os.Remove(w.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// target resolves symbolic links in path's last element and refuses what must
// not be replaced.
func target(path string) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", withoutPath(err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return "", fmt.Errorf("resolve the link: %w", withoutPath(err))
		}
		if info, err = os.Lstat(path); err != nil {
			return "", withoutPath(err)
		}
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("is a %s, cannot be replaced by a file", kind(info))
	}
	return path, nil
}

// createTemp creates a file in dir under a name nobody uses. In contrast to
// os.CreateTemp the umask alone decides who may read it.
func createTemp(dir string) (*os.File, error) {
	for range 100 {
		name := filepath.Join(dir, fmt.Sprintf(".gguf-%08x.tmp", rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return f, withoutPath(err)
	}
	return nil, errors.New("no free name for a temporary file")
}

// SameFile reports whether two paths mean the same file: by the same path,
// through links, or, for files that do not exist, by being the same name in
// the same directory.
func SameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	if (errA == nil) != (errB == nil) {
		return false
	}
	return filepath.Base(a) == filepath.Base(b) && sameDir(filepath.Dir(a), filepath.Dir(b))
}

func sameDir(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

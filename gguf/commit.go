package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Commit flushes the file to the disk and puts it in its place, replacing what
// was there in one step. All tensors must have been written. When it fails,
// nothing is left, and what was there is there still, unless all that failed
// was to make the new name durable.
//
// Parts get their names one after the other, the first part last: a set that
// was interrupted has no first part, and nothing opens it. Files they replace
// are set aside before and removed after.
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

// seal makes the temporary files durable and renames them.
func (w *Writer) seal() error {
	for _, f := range w.files {
		if err := f.seal(); err != nil {
			return err
		}
	}
	if len(w.files) == 1 {
		f := w.files[0]
		if err := w.disk.rename(f.temp, f.path); err != nil {
			return err
		}
		return w.syncDirs()
	}
	return w.placeSet()
}

// seal makes one temporary file durable.
func (f *outFile) seal() error {
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return withoutPath(err)
	}
	// Not the size the system tells: space may have been reserved.
	if f.written != f.size {
		return fmt.Errorf("internal error: %d bytes written, %d planned", f.written, f.size)
	}
	return withoutPath(f.file.Close())
}

// move is a file that was renamed on the way.
type move struct{ from, to string }

// placeSet gives the parts their names. On failure all is put back.
func (w *Writer) placeSet() (err error) {
	var aside, placed []move
	defer func() {
		if err == nil {
			return
		}
		for _, m := range placed {
			err = errors.Join(err, w.disk.rename(m.to, m.from))
		}
		for _, m := range aside {
			err = errors.Join(err, w.disk.rename(m.to, m.from))
		}
	}()
	for _, f := range w.files {
		m := move{f.path, f.temp + asideSuffix}
		release, err := w.disk.setAside(m.from, m.to)
		switch {
		case err == nil:
			defer release()
			aside = append(aside, m)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	for i := len(w.files) - 1; i >= 0; i-- {
		if i == 0 {
			if err := w.syncDirs(); err != nil {
				return err
			}
		}
		m := move{w.files[i].temp, w.files[i].path}
		if err := w.disk.rename(m.from, m.to); err != nil {
			return err
		}
		placed = append(placed, m)
	}
	// The set is complete: from here on nothing is put back.
	for _, m := range aside {
		err = errors.Join(err, w.disk.remove(m.to))
	}
	aside, placed = nil, nil
	return errors.Join(err, w.syncDirs())
}

// syncDirs makes names durable in every folder that has one of the files:
// several, where the targets are symbolic links.
func (w *Writer) syncDirs() error {
	done := map[string]bool{}
	for _, f := range w.files {
		dir := filepath.Dir(f.path)
		if done[dir] {
			continue
		}
		done[dir] = true
		if err := w.disk.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// Abort removes the temporary files. After Commit, or a second time, it does
// nothing: it can be deferred.
func (w *Writer) Abort() error {
	if errors.Is(w.err, errDone) {
		return nil
	}
	w.err = errDone
	var errs []error
	for _, f := range w.files {
		if f.file == nil {
			continue
		}
		// Closing twice is harmless and what Commit failed on may be the closing.
		_ = f.file.Close()
		if err := w.disk.remove(f.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
)

// GuardFault runs read, which touches memory that a File mapped, and turns the
// fault of a page that another process has cut off into ErrTruncated. It works
// for the calling goroutine alone.
func GuardFault(read func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		r := recover()
		if r == nil {
			return
		}
		if fault, ok := r.(interface{ Addr() uintptr }); ok {
			err = fmt.Errorf("%w: it was cut short while in use (fault at %#x)", ErrTruncated, fault.Addr())
			return
		}
		panic(r)
	}()
	return read()
}

// withoutPath strips the path off an error of package os, for callers that
// name it themselves.
func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", pathErr.Op, pathErr.Err)
	}
	return err
}

package sparsefmt

import (
	"fmt"
	"runtime/debug"

	"besa/gguf"
)

// guardFault runs work, which touches a mapped file, and turns the fault of a
// page that another process has cut off into gguf.ErrTruncated. It holds for
// the calling goroutine alone.
func guardFault(work func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("%w: it was cut short while in use (fault at %#x)", gguf.ErrTruncated, r.Addr())
		default:
			panic(r)
		}
	}()
	return work()
}

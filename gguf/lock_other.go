//go:build !unix || solaris || aix

package gguf

import (
	"errors"
	"os"
)

// lock fails: without locks nobody can tell whether a file is in use.
func lock(*os.File) error { return errors.ErrUnsupported }

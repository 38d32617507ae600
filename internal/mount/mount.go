// Package mount shows a file that exists nowhere as a file in a directory,
// through FUSE: its bytes are asked of an io.ReaderAt when somebody reads them.
//
// In: a [File] and a directory. Out: a [Mount], which lasts until it is
// unmounted by [Mount.Unmount] or from outside. The kernel keeps what was read
// in its page cache, so the file can be mapped, and is generated once as long
// as there is memory.
package mount

import (
	"errors"
	"io"
	"os"
	"runtime"
	"time"
)

// Errors that callers decide on.
var (
	// ErrUnavailable: this system or this user cannot mount.
	ErrUnavailable = errors.New("FUSE is not available")
	// ErrBusy: somebody has the file open, maps it, or is in the directory.
	ErrBusy = errors.New("the mount is in use")
	// ErrDirectory: the directory cannot be mounted on.
	ErrDirectory = errors.New("cannot mount there")
)

// File is what appears in the directory.
type File struct {
	Name    string
	Size    int64 // bytes
	ModTime time.Time
	// Data must allow calls by many goroutines at once. An error of it is an
	// input/output error to the reader.
	Data io.ReaderAt
}

// Options are the choices of [New].
type Options struct {
	// AllowOther lets other users read the file. The system must permit it:
	// user_allow_other in /etc/fuse.conf, unless root mounts.
	AllowOther bool
	// OnError is told of errors of File.Data, from any goroutine.
	OnError func(error)
}

// UnmountCommand is what a user types to take away a mount on dir from
// outside; lazily also while it is in use.
func UnmountCommand(dir string, lazily bool) string {
	switch root := os.Geteuid() == 0; {
	case runtime.GOOS != "linux":
		return "umount " + dir
	case root && lazily:
		return "umount -l " + dir
	case root:
		return "umount " + dir
	case lazily:
		return "fusermount3 -u -z " + dir
	}
	return "fusermount3 -u " + dir
}

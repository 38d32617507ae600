//go:build darwin || dragonfly || freebsd || linux

package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Free returns the bytes that this user can still write to dir's file system.
func Free(dir string) (free int64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true //nolint:unconvert // other types on other systems
}

// SameVolume tells whether two folders share their space.
func SameVolume(a, b string) bool {
	var s, t unix.Stat_t
	return unix.Stat(a, &s) == nil && unix.Stat(b, &t) == nil && s.Dev == t.Dev
}

// Writable reports why no file can be made in dir.
func Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// SyncDir makes names in dir durable. Some file systems cannot sync a
// directory and say so; there is nothing to be done about it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

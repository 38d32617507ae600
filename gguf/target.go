package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

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

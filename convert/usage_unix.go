//go:build unix && !linux

package convert

import (
	"runtime"
	"syscall"
)

// readUsage asks the system for the largest resident size; what of it is
// anonymous it does not say.
func readUsage() usage {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return usage{}
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return usage{peak: int64(u.Maxrss)} // bytes there, kibibytes elsewhere
	}
	return usage{peak: int64(u.Maxrss) << 10}
}

//go:build unix

package main

import "syscall"

// childrenRSS is the largest resident size of any finished child, in bytes.
func childrenRSS() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) != nil {
		return 0
	}
	return int64(u.Maxrss) * 1024 //nolint:unconvert // an int32 on some systems
}

//go:build !linux

package main

// residentMemory is not measured on this system.
func residentMemory() (now, peak int64) { return 0, 0 }

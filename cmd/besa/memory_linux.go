package main

import (
	"os"
	"strconv"
	"strings"
)

// residentMemory returns how much memory the process takes up now and has taken
// up at most, in bytes; mapped files count as far as they are in memory.
func residentMemory() (now, peak int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
		case key == "VmRSS":
			now = kib << 10
		case key == "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak
}

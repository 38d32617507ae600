//go:build !unix

package convert

// peakRSS is not measured on this system.
func peakRSS() int64 { return 0 }

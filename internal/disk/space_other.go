//go:build !(darwin || dragonfly || freebsd || linux)

package disk

// Free is not known on this system.
func Free(string) (free int64, known bool) { return 0, false }

// SameVolume is not known on this system.
func SameVolume(string, string) bool { return false }

// Writable: only trying tells on this system.
func Writable(string) error { return nil }

// SyncDir: directories cannot be synced here.
func SyncDir(string) error { return nil }

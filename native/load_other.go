//go:build !linux

package native

// tryLoad fails: there is no plugin for this system.
func tryLoad(string) error { return ErrPlatform }

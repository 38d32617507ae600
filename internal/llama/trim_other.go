//go:build !linux

package llama

// trimC does nothing: other systems' C libraries have no call for it.
func trimC() {}

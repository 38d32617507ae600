//go:build !unix

package gguf

// syncDir: directories cannot be synced here.
func syncDir(string) error { return nil }

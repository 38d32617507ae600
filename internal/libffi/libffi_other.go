//go:build !linux && !freebsd

// Package libffi checks that the system has libffi where the llama.cpp binding
// does not bring its own. In: the system's libraries. Out: nothing on this system.
package libffi

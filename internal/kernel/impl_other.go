//go:build !amd64 || purego

package kernel

// No assembly for this architecture yet: the portable versions run.
var archImplementations []*implementation

func pause() {}

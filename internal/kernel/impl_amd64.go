//go:build amd64 && !purego

package kernel

var archImplementations []*implementation

func pause() {}

//go:build !linux

package llama

// Nothing of this is known of other systems' C libraries.

func tidyC() {}

func trimC() {}

func dropPrograms() {}

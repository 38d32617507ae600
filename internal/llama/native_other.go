//go:build !linux

package llama

import "besa/native"

// The plugin is built for Linux alone.

func namedPlugin() string              { return "" }
func installedPlugin() (string, error) { return "", nil }
func loadPlugin(_, _ string) error     { return native.ErrPlatform }
func openPlugin(string) *plugin        { return nil }

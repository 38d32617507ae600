//go:build !linux

package llama

// openPlugin finds nothing: the plugin is built for Linux alone.
func openPlugin() *plugin { return nil }

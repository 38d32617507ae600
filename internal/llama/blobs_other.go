//go:build !linux

package llama

// blobs are unpacked weights, of which only the native plugin has use: there is
// none for this system.
type blobs struct{}

func (*blobs) hold(blob []byte) ([]byte, error) { return blob, nil }

func (*blobs) trim() {}

func (*blobs) close() error { return nil }

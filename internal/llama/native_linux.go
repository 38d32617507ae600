package llama

import (
	"os"

	"github.com/ebitengine/purego"
)

// openPlugin returns the plugin that llama.cpp has loaded, or nil when there is
// none or it speaks another version of the interface.
func openPlugin() *plugin {
	path := os.Getenv("GGML_BACKEND_PATH")
	if path == "" {
		return nil
	}
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil
	}
	var abi func() int32
	p := &plugin{}
	for name, fn := range map[string]any{
		"besa_native_abi": &abi, "besa_native_offer": &p.offer,
		"besa_native_withdraw": &p.withdrawAt, "besa_native_stats": &p.stats,
	} {
		address, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil // another backend
		}
		purego.RegisterFunc(fn, address)
	}
	if abi() != nativeABI {
		return nil
	}
	return p
}

package llama

import (
	"errors"
	"fmt"
	"os"

	"github.com/ebitengine/purego"
	"github.com/hybridgroup/yzma/pkg/loader"
	"github.com/jupiterrider/ffi"

	"besa/native"
)

// namedPlugin returns the path in $GGML_BACKEND_PATH if besa's plugin lies there.
func namedPlugin() string {
	path := os.Getenv("GGML_BACKEND_PATH")
	if path == "" {
		return ""
	}
	if _, err := native.BuiltFrom(path); err != nil {
		return "" // another backend
	}
	return path
}

// installedPlugin returns the path of the plugin that besa native install put
// there. A file that is there and is no plugin is an error.
func installedPlugin() (string, error) {
	path, err := native.Path()
	if err != nil {
		return "", nil //nolint:nilerr // no cache folder: nothing is installed
	}
	if _, err := native.BuiltFrom(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", fmt.Errorf("%w; install it again with: besa native install", err)
	}
	return path, nil
}

// loadPlugin has ggml, whose backends are loaded, load the plugin too. What
// comes of it the plugin's stats say.
func loadPlugin(dir, path string) error {
	lib, err := loader.LoadLibrary(dir, "ggml")
	if err != nil {
		return err
	}
	load, err := lib.Prep("ggml_backend_load", &ffi.TypePointer, &ffi.TypePointer)
	if err != nil {
		return err
	}
	name := &append([]byte(path), 0)[0]
	var registered uintptr
	load.Call(&registered, &name)
	return nil
}

// openPlugin finds the functions of the plugin that ggml has loaded, nil when
// there is none or it speaks another version of the interface.
func openPlugin(path string) *plugin {
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
			return nil
		}
		purego.RegisterFunc(fn, address)
	}
	if abi() != native.ABI {
		return nil
	}
	return p
}

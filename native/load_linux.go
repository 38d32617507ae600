package native

import (
	"fmt"

	"github.com/ebitengine/purego"
)

// tryLoad loads a library and asks for its interface. It stays loaded.
func tryLoad(path string) error {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return err
	}
	address, err := purego.Dlsym(lib, "besa_native_abi")
	if err != nil {
		return err
	}
	var abi func() int32
	purego.RegisterFunc(&abi, address)
	if got := abi(); got != ABI {
		return fmt.Errorf("its interface is version %d, this besa needs %d", got, ABI)
	}
	return nil
}

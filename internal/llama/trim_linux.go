package llama

import (
	"sync"

	"github.com/ebitengine/purego"
)

// mallocTrim is glibc's malloc_trim(3); other C libraries have none.
var mallocTrim = sync.OnceValue(func() uintptr {
	address, err := purego.Dlsym(purego.RTLD_DEFAULT, "malloc_trim")
	if err != nil {
		return 0
	}
	return address
})

// trimC gives memory that C code has freed back to the system.
func trimC() {
	if trim := mallocTrim(); trim != 0 {
		_, _, _ = purego.SyscallN(trim, 0)
	}
}

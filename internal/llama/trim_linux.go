package llama

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// cFunction finds a function of the C library, 0 where it has none: those
// below are glibc's.
func cFunction(name string) uintptr {
	address, err := purego.Dlsym(purego.RTLD_DEFAULT, name)
	if err != nil {
		return 0
	}
	return address
}

// tidyC has glibc keep large pieces apart from small ones, so that they go back
// to the system when they are freed. By itself it does so only until the first
// of them is freed.
func tidyC() {
	const mmapThreshold = ^uintptr(3 - 1) // -3, M_MMAP_THRESHOLD of mallopt(3)
	if option := cFunction("mallopt"); option != 0 {
		_, _, _ = purego.SyscallN(option, mmapThreshold, 128<<10)
	}
}

var mallocTrim = sync.OnceValue(func() uintptr { return cFunction("malloc_trim") })

// trimC gives memory that C code has freed back to the system.
func trimC() {
	if trim := mallocTrim(); trim != 0 {
		_, _, _ = purego.SyscallN(trim, 0)
	}
}

// mapping is a part of the address space, as /proc/self/smaps describes it.
type mapping struct {
	line       string // its first: addresses, mode, …, path
	mode       string
	start, end uintptr
	resident   int // KiB
	anonymous  int // KiB that are no longer the file's
}

// clean tells whether the mapping is of a file, cannot be written and never was.
func (m mapping) clean() bool {
	return strings.Contains(m.line, "/") && (m.mode == "r-xp" || m.mode == "r--p") && m.anonymous == 0
}

func (m mapping) advise(advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, uintptr(advice))
}

// mappings are the process's.
func mappings(yield func(mapping) bool) {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	var m mapping
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case f[0] == "Rss:":
			m.resident, _ = strconv.Atoi(f[1])
		case f[0] == "Anonymous:":
			m.anonymous, _ = strconv.Atoi(f[1])
		case f[0] == "VmFlags:": // the last line
			if !yield(m) {
				return
			}
		case !strings.HasSuffix(f[0], ":"):
			m = mapping{line: strings.TrimSpace(line), mode: f[1]}
			_, _ = fmt.Sscanf(f[0], "%x-%x", &m.start, &m.end)
		}
	}
}

// dropPrograms takes the pages of programs and libraries out of the process.
// Most were used once, to start and to load; those that are needed come back
// from the file, which the system keeps cached. Only pages that are still the
// file's go: none of a mapping that may be written, or has been (relocations).
func dropPrograms() {
	for m := range mappings {
		if m.clean() {
			m.advise(unix.MADV_DONTNEED)
		}
	}
}

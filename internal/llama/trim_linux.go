package llama

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
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
// of them is freed. And it has all threads share one heap: llama.cpp's allocate
// next to nothing, and Go's come and go.
func tidyC() {
	const ( // of mallopt(3)
		mmapThreshold = ^uintptr(3 - 1) // M_MMAP_THRESHOLD, -3
		arenaMax      = ^uintptr(8 - 1) // M_ARENA_MAX, -8
	)
	if option := cFunction("mallopt"); option != 0 {
		_, _, _ = purego.SyscallN(option, mmapThreshold, 128<<10)
		_, _, _ = purego.SyscallN(option, arenaMax, 1)
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
	path       string // of the file; "" or in brackets: none
	mode       string
	start, end uintptr
	resident   int // KiB
	anonymous  int // KiB that are no longer the file's
}

// clean tells whether the mapping is of a file, cannot be written and never was.
func (m mapping) clean() bool {
	return strings.HasPrefix(m.path, "/") && (m.mode == "r-xp" || m.mode == "r--p") && m.anonymous == 0
}

func (m mapping) advise(advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, uintptr(advice))
}

// mappings are the process's. Reading them leaves little garbage: a collection
// right after dropPrograms would bring back what it has dropped.
func mappings(yield func(mapping) bool) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	var m mapping
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Bytes()
		key, value, named := bytes.Cut(line, []byte(":"))
		switch {
		case named && string(key) == "Rss":
			m.resident = kibibytes(value)
		case named && string(key) == "Anonymous":
			m.anonymous = kibibytes(value)
		case named && string(key) == "VmFlags": // the last line
			if !yield(m) {
				return
			}
		case len(line) > 0 && (line[0] < 'A' || line[0] > 'Z'): // the first: addresses in lower case
			m = mapping{}
			if f := strings.Fields(string(line)); len(f) >= 5 {
				_, _ = fmt.Sscanf(f[0], "%x-%x", &m.start, &m.end)
				m.mode, m.path = f[1], strings.Join(f[5:], " ")
			}
		}
	}
}

// kibibytes reads a value such as "  128 kB".
func kibibytes(value []byte) (n int) {
	for _, c := range value {
		if c >= '0' && c <= '9' {
			n = 10*n + int(c-'0')
		}
	}
	return n
}

// dropPrograms takes the pages of programs and libraries out of the process.
// Most were used once, to start and to load; those that are needed come back
// from the file, which the system keeps cached. Only pages that are still the
// file's go: none of a mapping that may be written, or has been (relocations).
func dropPrograms() {
	for _, m := range slices.Collect(mappings) { // in one go: looking for them uses them
		if m.clean() {
			m.advise(unix.MADV_DONTNEED)
		}
	}
}

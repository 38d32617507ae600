package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// ErrMemory marks a job that does not fit into the memory it may use.
var ErrMemory = errors.New("not enough memory")

// unknownMemory is what is assumed where the system does not say what it has.
const unknownMemory = 8 << 30

// DefaultMemory is the memory that a conversion keeps within when it is not
// told otherwise: three quarters of what the system has, or of what the
// control groups (v1 and v2) that this process runs in allow, whichever is
// less; 8 GiB where neither is known.
func DefaultMemory() int64 {
	if n := availableMemory(os.DirFS("/")); n > 0 {
		return n / 4 * 3
	}
	return unknownMemory
}

// availableMemory reads Linux's account of its memory below root; 0: none.
func availableMemory(root fs.FS) int64 {
	info, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	limit := statusBytes(info, "MemTotal:")
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit
	}
	for line := range strings.Lines(string(groups)) {
		// "hierarchy:controllers:path"; version 2 has hierarchy 0 and no controllers.
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		if fields[1] == "memory" {
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		} else if fields[0] != "0" {
			continue
		}
		// Every ancestor limits too. Inside a container the path may be that of
		// the host, which is not visible; then only the root of the mount is.
		for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
			if n := groupLimit(root, path.Join(base, dir, file)); n > 0 && (limit == 0 || n < limit) {
				limit = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit
}

// groupLimit reads a control group's limit; 0: none.
func groupLimit(root fs.FS, name string) int64 {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64) // "max" is no number
	return n
}

// garbagePercent is how much of what lives garbage may grow to before it is
// collected. What lives is large, little in number and free of pointers, so that
// collecting it is cheap, and Go's 100 % would double the memory of a conversion.
const garbagePercent = 20

// limitHeap makes the garbage collector keep the process within limit bytes,
// unless GOMEMLIMIT asks for less, and garbage small; it returns a function that
// undoes it.
func limitHeap(limit int64) (restore func()) {
	const outside = 64 << 20 // the program itself, thread stacks, the kernel's page tables
	old := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(old, max(limit-outside, limit/2)))
	percent := debug.SetGCPercent(garbagePercent)
	return func() {
		debug.SetMemoryLimit(old)
		debug.SetGCPercent(percent)
	}
}

// Budget is what a conversion needs at most, in bytes.
type Budget struct {
	Limit       int64 `json:"limit_bytes"`
	Block       int64 `json:"block_bytes"`       // the block in work, with all that learning needs
	Activations int64 `json:"activation_bytes"`  // the hidden states of all windows: what enters a block, what leaves it dense
	Spill       int64 `json:"spill_bytes"`       // of the activations, what goes to a spill file
	Peak        int64 `json:"peak_memory_bytes"` // what stays in memory
}

// slack is kept free for what is not counted: encoded tensors, packed
// panels of the matrix products, garbage not yet collected.
const slack = 8 // an eighth of what is counted

// fit decides where the activations go.
func (b *Budget) fit() error {
	b.Peak = b.Block + b.Block/slack
	if b.Peak > b.Limit {
		return fmt.Errorf("%w: one block needs about %s, the limit is %s; give more with --memory, or use shorter windows (--calib-len)",
			ErrMemory, sizeText(b.Peak), sizeText(b.Limit))
	}
	if with := b.Block + b.Activations; with+with/slack <= b.Limit {
		b.Peak = with + with/slack
	} else {
		b.Spill = b.Activations
	}
	return nil
}

func sizeText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

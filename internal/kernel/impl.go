package kernel

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

// implementation is one way to run the float32 kernels.
type implementation struct {
	name    string
	missing func() []string // CPU features (and OS support) it lacks here
	gemm    microKernel[float32]
	bf16    microKernel[float32] // of products in BF16
	vec     vectorKernels[float32]
	ranked  rankedKernels
	learn   learnKernels
	expand  expandKernels
	peak    func(n int) (flops int) // runs n rounds of nothing but its multiply-adds

	peakBF16 func(n int) (flops int) // the same in BF16; nil when bf16 is the portable version
}

// implementations lists all that were compiled in, slowest first. The
// architecture's file appends to it.
var implementations = append([]*implementation{{
	name:    "generic",
	missing: func() []string { return nil },
	gemm:    genericKernel[float32](),
	bf16:    genericBF16(),
	vec:     genericVectors[float32](),
	ranked:  genericRanked(),
	learn:   genericLearn(),
	expand:  genericExpand(),
	peak:    peakGeneric,
}}, archImplementations...)

// product returns the kernel of products in a precision.
func (i *implementation) product(p Precision) *microKernel[float32] {
	if p == BF16 {
		return &i.bf16
	}
	return &i.gemm
}

var (
	current       atomic.Pointer[implementation]
	errSelect     error // what was wrong with BESA_KERNEL
	generic64     = genericKernel[float64]()
	genericVecs64 = genericVectors[float64]()
)

func init() {
	current.Store(best())
	if name := os.Getenv("BESA_KERNEL"); name != "" {
		if err := Use(name); err != nil {
			errSelect = fmt.Errorf("BESA_KERNEL: %w", err)
		}
	}
}

// Select reports what was wrong with BESA_KERNEL when the program started; a
// command calls it before work begins. Until then, and after an error, the
// best implementation is in use.
func Select() error { return errSelect }

// best returns the fastest implementation that this machine runs.
func best() *implementation {
	b := implementations[0]
	for _, i := range implementations {
		if len(i.missing()) == 0 {
			b = i
		}
	}
	return b
}

// Implementation returns the name of the implementation in use.
func Implementation() string { return current.Load().name }

// Implementations returns the names of those that this machine runs, slowest first.
func Implementations() []string {
	var names []string
	for _, i := range implementations {
		if len(i.missing()) == 0 {
			names = append(names, i.name)
		}
	}
	return names
}

// Use makes the named implementation the one in use from the next call of any
// kernel on. It fails when there is none of that name in this build or the
// CPU lacks what it needs; nothing changes then.
func Use(name string) error {
	var known []string
	for _, i := range implementations {
		known = append(known, i.name)
		if i.name != name {
			continue
		}
		if m := i.missing(); len(m) > 0 {
			return fmt.Errorf("kernel %q is not available: this CPU or operating system lacks %s", name, strings.Join(m, ", "))
		}
		current.Store(i)
		return nil
	}
	return fmt.Errorf("unknown kernel %q: this build has %s", name, strings.Join(known, ", "))
}

//go:build linux

package kernel

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

// beforeNothing returns a copy of b behind which no memory is: to touch as much as
// the byte behind it is a fault.
func beforeNothing(t *testing.T, b []byte) []byte {
	t.Helper()
	page := os.Getpagesize()
	size := (len(b) + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(m); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(m[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	end := m[size-len(b) : size : size]
	copy(end, b)
	return end
}

// TestExpandStaysInside: no load and no store leaves what was given, which
// TestExpand shows of the bytes beside dst only.
func TestExpandStaysInside(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for blocks := 1; blocks <= 21; blocks++ {
			for _, group := range []int{32, 64, 128, 256} {
				r := rand.New(rand.NewPCG(uint64(blocks), uint64(group)))
				p := newPrunedRow(r, 32*blocks, 0.5)
				groups := (32*blocks + group - 1) / group
				row := Row{Mask: beforeNothing(t, p.mask), Stream: beforeNothing(t, p.stream)}
				row.Ahead = row.Mask
				wide := Row{Mask: row.Mask, Stream: beforeNothing(t, make([]byte, 2*len(p.stream)-expandAhead))}
				scales, zeros, heads := beforeNothing(t, make([]byte, 2*groups)), beforeNothing(t, make([]byte, groups)), make([]uint32, groups)
				n := Nibbles{Row: row, Group: group}
				n.Q40(beforeNothing(t, make([]byte, 18*blocks)), scales)
				if !Minima(heads, scales, zeros) {
					t.Error("zero is not exact")
				}
				n.Q41(beforeNothing(t, make([]byte, 20*blocks)), heads, zeros)
				row.Q80(beforeNothing(t, make([]byte, 34*blocks)), scales, group)
				wide.Values(beforeNothing(t, make([]byte, 64*blocks)))
			}
		}
	})
}

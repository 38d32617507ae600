package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// peak writes the loop that measures what the multiply-add units can do:
// twelve chains, of which eight are enough for two units of four cycles' latency.
func peak(s isa) {
	s.begin("peak", "(n int)", fmt.Sprintf("runs n rounds of %d multiply-adds on registers.", 2*peakChains))
	n := param("n")
	x := s.vec()
	s.zero(x)
	acc := s.sums(peakChains)
	Comment("for ; n > 0; n-- { each acc += x·x, twice }")
	Label("loop")
	for range 2 {
		for _, v := range acc {
			s.mulAdd(x, x, v)
		}
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	end()
}

const peakChains = 12

// pause writes the hint that the caller waits for another thread.
func pause() {
	TEXT("pause", NOSPLIT, "func()")
	Doc("pause tells the CPU that the caller is waiting in a loop.")
	PAUSE()
	RET()
}

package llama

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// residentProgram returns how much of the test's own program is in memory, KiB.
func residentProgram(t *testing.T) (kib int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for m := range mappings {
		if strings.HasSuffix(m.path, exe) && m.mode == "r-xp" {
			kib += m.resident
		}
	}
	return kib
}

// The program goes on with its pages dropped, constants and code alike, and
// has fewer of them afterwards than when all were touched. How many fewer is the
// system's choice: it may bring back two megabytes at a touch.
func TestDropPrograms(t *testing.T) {
	for m := range mappings {
		if m.clean() && strings.HasSuffix(m.path, ".test") {
			m.advise(unix.MADV_POPULATE_READ)
		}
	}
	before := residentProgram(t)
	dropPrograms()
	after := residentProgram(t)
	if before == 0 || after > before*4/5 {
		t.Errorf("%d KiB of the program's code in memory, %d before", after, before)
	}
}

package llama

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unsafe"

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

// TestBlobs: what is held stays as it is, on cache lines of its own, also where a
// region ends; what is left of a region holds no memory.
func TestBlobs(t *testing.T) {
	var b blobs
	var held [][]byte
	for i, size := range []int{1, 100, 64, regionBytes - 1000, 5000, regionBytes + 1} {
		blob := bytes.Repeat([]byte{byte(i + 1)}, size)
		h, err := b.hold(blob)
		if err != nil {
			t.Fatal(err)
		}
		if uintptr(unsafe.Pointer(&h[0]))%blobAlign != 0 {
			t.Errorf("blob %d lies at %p", i, h)
		}
		held = append(held, h)
	}
	b.trim()
	for i, h := range held {
		if bytes.Count(h, []byte{byte(i + 1)}) != len(h) {
			t.Errorf("blob %d of %d bytes has changed", i, len(h))
		}
	}
	if len(b.regions) != 3 {
		t.Errorf("%d regions", len(b.regions))
	}
	if err := b.close(); err != nil || b.regions != nil {
		t.Errorf("%v, %d regions left", err, len(b.regions))
	}
}

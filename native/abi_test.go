package native

import (
	"fmt"
	"strings"
	"testing"
)

// TestABI holds the number in Go to the one in the header.
func TestABI(t *testing.T) {
	header, err := sources.ReadFile("src/besa_native.h")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(header), fmt.Sprintf("#define BESA_NATIVE_ABI %d\n", ABI)) {
		t.Errorf("the header's BESA_NATIVE_ABI is not %d", ABI)
	}
}

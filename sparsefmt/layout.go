package sparsefmt

import "fmt"

// Layout is how a file stores its blobs. The numbers are the layout bytes of
// blob headers. Both layouts hold the same tensors and convert into each
// other without loss.
type Layout uint8

const (
	// LayoutPlain is mapped and executed in place.
	LayoutPlain Layout = 1
	// LayoutPacked is entropy-coded, for keeping and publishing.
	LayoutPacked Layout = 2
)

var layoutNames = [...]string{LayoutPlain: "plain", LayoutPacked: "packed"}

// String returns the value of besa.format.layout.
func (l Layout) String() string {
	if l != LayoutPlain && l != LayoutPacked {
		return fmt.Sprintf("layout(%d)", uint8(l))
	}
	return layoutNames[l]
}

// ParseLayout is the inverse of String.
func ParseLayout(s string) (Layout, error) {
	for l := LayoutPlain; l <= LayoutPacked; l++ {
		if layoutNames[l] == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("%w: layout %q; have %v, %v", ErrUnsupported, s, LayoutPlain, LayoutPacked)
}

// MarshalText and UnmarshalText make layouts readable in JSON.
func (l Layout) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText accepts the names that String returns.
func (l *Layout) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLayout(string(text))
	return err
}

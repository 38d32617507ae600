package gguf

import (
	"fmt"
	"os"
	"slices"
	"strings"

	parser "github.com/gpustack/gguf-parser-go"
)

// gguf-parser-go reads every file after this package's own scan has accepted
// it, and both must see the same thing. It is given no file that could make it
// panic or allocate without measure, which takes limits beyond those of the
// scan:
const (
	// It reserves room for the tensors of all parts of a split model, as many
	// as split.tensors.count claims.
	maxSplitTensors = 1 << 16
	// It turns the elements of some arrays into boxed values.
	maxLayerValues = 1 << 16
	// It asks for so many bytes per pair, and would call a header of a few
	// short pairs truncated.
	parserPairBytes = 20
)

// layerValueKeys are the endings of the keys whose arrays, of one value per
// layer, it does not skip.
var layerValueKeys = []string{
	".feed_forward_length", ".attention.head_count", ".attention.head_count_kv", ".attention.sliding_window_pattern",
}

// secondOpinion lets gguf-parser-go read the open file f, whose own header
// scan gave h, and compares.
func secondOpinion(f *os.File, path string, size int64, h *header) error {
	if err := h.checkParserLimits(); err != nil {
		return err
	}
	if uint64(len(h.kvs))*parserPairBytes+headerBytes > uint64(size) {
		return nil
	}
	view, err := parserView(f, path)
	if err != nil {
		return fmt.Errorf("%w: gguf-parser-go: %w", ErrMalformed, err)
	}
	if view == nil {
		return nil
	}
	if diff := h.compare(view); diff != "" {
		return fmt.Errorf("%w: gguf-parser-go sees it differently: %s", ErrMalformed, diff)
	}
	return nil
}

// checkParserLimits refuses what the parser would spend memory on.
func (h *header) checkParserLimits() error {
	for _, kv := range h.kvs {
		if kv.Key == splitTensorsKey {
			if n, ok := kv.Uint(); !ok || n > maxSplitTensors {
				return fmt.Errorf("%w: %s is not a number up to %d", ErrMalformed, splitTensorsKey, maxSplitTensors)
			}
		}
		if _, n, ok := kv.Elem(); ok && n > maxLayerValues &&
			slices.ContainsFunc(layerValueKeys, func(suffix string) bool { return strings.HasSuffix(kv.Key, suffix) }) {
			return fmt.Errorf("%w: key %q has %d values, one per layer: more than %d", ErrMalformed, clip(kv.Key), n, maxLayerValues)
		}
	}
	return nil
}

// parserView runs the parser, any panic of which becomes an error. It opens
// files by name, follows a "-00001-of-00003" in it to the other parts and
// expands "~": so it gets the name of the open descriptor where the system has
// one, which is also certain to be the file that was scanned. The result is
// nil when there is no such name and path means several parts.
func parserView(f *os.File, path string) (view *parser.GGUFFile, err error) {
	defer func() {
		if r := recover(); r != nil {
			view, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	options := []parser.GGUFReadOption{parser.SkipLargeMetadata()}
	if canMap {
		options = append(options, parser.UseMMap())
	}
	if name, ok := descriptorName(f); ok {
		return parser.ParseGGUFFile(name, options...)
	}
	if parser.CompleteShardGGUFFilename(path) != nil || strings.HasPrefix(path, "~") {
		return nil, nil
	}
	return parser.ParseGGUFFile(path, options...)
}

// descriptorName returns a path of the file behind f's descriptor.
func descriptorName(f *os.File) (string, bool) {
	own, err := f.Stat()
	if err != nil {
		return "", false
	}
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		name := fmt.Sprintf("%s/%d", dir, f.Fd())
		if other, err := os.Stat(name); err == nil && os.SameFile(own, other) {
			return name, true
		}
	}
	return "", false
}

// compare returns the first difference between the two readings, "" if none.
func (h *header) compare(view *parser.GGUFFile) string {
	kvs := len(h.kvs)
	if _, ok := h.keys[splitNoKey]; ok {
		kvs-- // the parser drops it
	}
	switch {
	case len(view.TensorInfos) != len(h.tensors):
		return fmt.Sprintf("%d tensors, not %d", len(view.TensorInfos), len(h.tensors))
	case len(view.Header.MetadataKV) != kvs:
		return fmt.Sprintf("%d metadata pairs, not %d", len(view.Header.MetadataKV), kvs)
	case uint64(view.TensorDataStartOffset) != h.dataOffset:
		return fmt.Sprintf("tensor data at %d, not %d", view.TensorDataStartOffset, h.dataOffset)
	}
	for i, t := range h.tensors {
		// The parser trims white space off names.
		if o := view.TensorInfos[i]; o.Name != strings.TrimSpace(t.Name) || uint32(o.Type) != uint32(t.Type) ||
			o.Offset != t.Offset || o.Bytes() != t.Bytes || !slices.Equal(o.Dimensions, t.Shape) {
			return fmt.Sprintf("tensor %d is %q %v of %v at %d, not %q %v of %v at %d",
				i, o.Name, o.Type, o.Dimensions, o.Offset, t.Name, t.Type, t.Shape, t.Offset)
		}
	}
	return ""
}

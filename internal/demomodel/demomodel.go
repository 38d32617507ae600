// Package demomodel embeds a tiny trained language model with the texts that
// belong to it, for the demo command and for tests: nothing to download, and
// pruning has something to destroy.
//
// The model is of the LLaMA architecture (hidden 256, feed-forward 768, 8 heads
// on 2 key-value heads, 4 blocks, 1024 byte-level BPE tokens, tied embeddings,
// context 512), stored as GGUF with Q8_0 matrices and F32 norms. It was trained
// by scripts/demo-model on the King James Bible of 1611, whose copyright has
// expired, as Debian ships it in the package bible-kjv-text. The calibration
// text consists of chapters that the model was trained on, the evaluation text
// of chapters that it has never seen.
package demomodel

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"sync"
)

var (
	//go:embed model.gguf
	model []byte
	//go:embed calibration.txt.gz
	calibrationGzip []byte
	//go:embed evaluation.txt.gz
	evaluationGzip []byte
)

var (
	calibration = sync.OnceValue(func() string { return inflate("calibration.txt.gz", calibrationGzip) })
	evaluation  = sync.OnceValue(func() string { return inflate("evaluation.txt.gz", evaluationGzip) })
)

// Model returns the GGUF file, at most 4,000,000 bytes. The slice is shared:
// callers must not change it.
func Model() []byte { return model }

// Calibration returns about 180 KB of plain ASCII text: whole training chapters
// from all over the book, each a title line and one verse a line, with an empty
// line between chapters.
func Calibration() string { return calibration() }

// Evaluation returns about 85 KB of held-out chapters, laid out like the
// calibration text.
func Evaluation() string { return evaluation() }

// inflate unpacks an embedded text. It panics when the data is damaged, which
// only a broken build can cause.
func inflate(name string, packed []byte) string {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		panic(fmt.Sprintf("demomodel: embedded %s: %v", name, err))
	}
	var text strings.Builder
	if _, err := io.Copy(&text, r); err != nil {
		panic(fmt.Sprintf("demomodel: embedded %s: %v", name, err))
	}
	return text.String()
}

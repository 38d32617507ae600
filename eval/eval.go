// Package eval measures language models: perplexity by two protocols, each
// under its own name. In: a model, as a [Model], and text. Out: figures with
// their standard errors, ready for JSON.
//
// The model runs in llama.cpp, whose shared library is loaded at run time
// (see [LoadLlama] and [FindLibrary]; no cgo). [Model] is the seam: everything
// else here works on any implementation, so a model in another engine, or in a
// child process that may crash, needs no change to the measurements.
package eval

import "context"

// Model gives the probabilities of one language model. A Model need not be
// safe for concurrent use.
type Model interface {
	// Tokenize returns the ids of text. Text that looks like a control token is
	// text. With special the model's beginning-of-sequence token comes first if
	// the model wants one, as BOS tells.
	Tokenize(text string, special bool) ([]int32, error)

	// BOS returns the beginning-of-sequence token, or -1, and whether the model
	// wants its input to start with it.
	BOS() (id int32, add bool)

	// Vocab returns the number of tokens: logits come in rows of that length.
	Vocab() int

	// NLL returns -ln p(window[i] | window[:i]) for i = from … len(window)-1, as
	// len(window)-from values, from ≥ 1. Nothing before the window is known to
	// the model.
	NLL(ctx context.Context, window []int32, from int) ([]float64, error)

	// Logits returns the scores of the token after each position of the window:
	// len(window) rows of Vocab() values.
	Logits(ctx context.Context, window []int32) ([]float32, error)

	// Close frees the model. Using it afterwards is an error, closing it again
	// is none.
	Close() error
}

// Batcher is a [Model] that can evaluate several windows of one length at once,
// as llama-perplexity does; that changes figures in their last digits.
type Batcher interface {
	Model

	// BatchWindows returns how many windows of a length go together, at least 1.
	BatchWindows(length int) int

	// NLLBatch is NLL for up to BatchWindows windows of the same length.
	NLLBatch(ctx context.Context, windows [][]int32, from int) ([][]float64, error)
}

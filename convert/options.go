// Package convert prunes a whole model: it opens the model, runs package besa
// over its blocks in order, and writes a sparse GGUF.
//
// In: Options (paths, calibration, the method's options). Out: the sparse GGUF
// and a Report. Finished blocks wait in a journal, a folder beside the output,
// until all sizes are known; the output appears under its name only when it is
// complete. A conversion that was interrupted or killed continues behind its
// last finished block and gives the same bytes. The journal is gone after
// success, and after failures that would only happen again.
package convert

import (
	"besa/besa"
	"besa/sparsefmt"
)

// Options says what to convert and how.
type Options struct {
	Input  string
	Output string
	Force  bool // replace an existing output
	// Layout of the output; the zero value means plain.
	Layout sparsefmt.Layout
	// SplitMaxSize, if not 0, has the output written in parts of at most that
	// many bytes of tensor data (see gguf.CreateSplit).
	SplitMaxSize uint64
	Resume       bool // continue where an interrupted conversion to this output stopped; else start afresh

	// Head is the type, by name, that token embeddings and output head are
	// given; empty: they are copied as they are. See HeadTypes.
	Head string

	Method      besa.Options
	Targets     []Target // sparsities of single tensors; of those that mean the same the last counts
	Calibration Calibration
	Imatrix     string      // llama.cpp's importance matrix, whose Σx² take the place of those of the windows; empty: none
	Activations Activations // format in which hidden states wait between blocks; empty: fp32
	Precision   Precision   // of matrix products; empty: auto
	Threads     int         // 0: all
	Version     string      // of the tool, for the file's metadata

	// Memory is what the conversion keeps within, in bytes; 0: DefaultMemory.
	// When the hidden states of all windows do not fit, they go to a scratch
	// file in SpillDir (empty: beside the output).
	Memory   int64
	SpillDir string

	OnEvent func(Event) // progress; called from one goroutine
}

// Event is one piece of progress.
type Event struct {
	Stage  Stage
	Block  int // finished blocks
	Blocks int
	// Done is the finished fraction of this run's work, in [0, 1].
	Done float64
	// Message is a line for the user, or empty.
	Message string
}

// Stage names what is being done.
type Stage string

// The stages.
const (
	StageTokenize Stage = "tokenize"
	StageWriteOwn Stage = "write calibration text" // the model does
	StageRestore  Stage = "restore"                // through the blocks that an earlier run finished
	StagePrune    Stage = "prune"
	StageWrite    Stage = "write"
)

// Report is what a conversion did. Sizes are bytes.
type Report struct {
	Input         string        `json:"input"`
	Output        string        `json:"output"` // the first part of a split model
	Parts         int           `json:"parts"`
	Architecture  string        `json:"architecture"`
	Method        string        `json:"method"`
	Grid          string        `json:"grid,omitempty"`
	Layout        string        `json:"layout"`
	Target        float64       `json:"sparsity_target"`
	Sparsity      float64       `json:"sparsity"`        // pruned share of the block weights
	BitsPerWeight float64       `json:"bits_per_weight"` // of the block weights, everything stored for them included
	InputBytes    int64         `json:"input_bytes"`
	FileBytes     int64         `json:"file_bytes"`
	Samples       int           `json:"calibration_windows"`
	Tokens        int           `json:"calibration_window_tokens"`
	CalibTokens   int           `json:"calibration_text_tokens"` // that were read or written to take the windows from
	Sampling      Sampling      `json:"calibration_sampling"`
	Imatrix       string        `json:"imatrix,omitempty"`   // the file that the sums of squared inputs come from
	CalibSeconds  float64       `json:"calibration_seconds"` // reading or writing the text
	Seed          uint64        `json:"seed"`
	Threads       int           `json:"threads"`
	Kernel        string        `json:"kernel"`
	Precision     Precision     `json:"precision"` // of the matrix products: fp32 or bf16
	Seconds       float64       `json:"seconds"`
	PruneSeconds  float64       `json:"prune_seconds"`
	GFLOPS        float64       `json:"gflops"`          // 10·P·T floating-point operations over the time in blocks
	PeakGFLOPS    float64       `json:"peak_gflops"`     // what the kernels' fp32 multiply-adds reach on registers, measured in this run
	PercentOfPeak float64       `json:"percent_of_peak"` // of the one, the other
	PeakRSS       int64         `json:"peak_rss_bytes"`
	PeakAnonymous int64         `json:"peak_anonymous_bytes"` // of it, what is no file's; 0: not known on this system
	Memory        Budget        `json:"memory"`
	Resumed       int           `json:"blocks_resumed,omitempty"` // finished by earlier runs
	Blocks        []BlockReport `json:"blocks"`
}

// BlockReport is one block's part of a Report.
type BlockReport struct {
	Block         int                `json:"block"`
	Error         float64            `json:"reconstruction_error,omitempty"` // ‖pruned − dense‖/‖dense‖ on the calibration windows; absent where there are none
	FirstLoss     float64            `json:"first_loss,omitempty"`           // mean reconstruction loss of the first quarter of the steps
	LastLoss      float64            `json:"last_loss,omitempty"`            // and of the last quarter
	Refinement    *Refinement        `json:"refinement,omitempty"`
	Sparsity      float64            `json:"sparsity"`
	Layers        map[string]float64 `json:"layer_sparsity"` // by linear layer
	BitsPerWeight float64            `json:"bits_per_weight"`
	Seconds       float64            `json:"seconds"`
}

// Refinement is what tuning the survivors did to a block's mean loss.
type Refinement struct {
	FirstPass     float64 `json:"first_pass_loss"`
	LastPass      float64 `json:"last_pass_loss"`
	HeldOutBefore float64 `json:"held_out_loss_before"`
	HeldOutAfter  float64 `json:"held_out_loss_after"`
}

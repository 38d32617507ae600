package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"besa/convert"
	"besa/eval"
	"besa/internal/enginebench"
	"besa/internal/kernel"
	"besa/internal/llama"
	"besa/internal/mount"
	"besa/native"
)

// version is the tool's version, written into the files it makes.
const version = "0.1.0"

// streams are the process's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Exit codes.
const (
	exitFine        = 0
	exitCheckFailed = 1
	exitRefused     = 2
	exitEnvironment = 3
	exitInterrupted = 130
)

// errCheckFailed ends a command whose check found something; what it found is
// already printed.
var errCheckFailed = errors.New("check failed")

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	root := newRoot(std)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	switch {
	case errors.Is(err, errCheckFailed):
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(std.err, "besa: interrupted"+kept(err))
	default:
		// One line, whatever a library put into the message.
		fmt.Fprintln(std.err, "besa:", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	}
	return exitCode(err)
}

// kept says what an interrupted conversion leaves for the next one.
func kept(err error) string {
	if k, ok := errors.AsType[*convert.KeptError](err); ok {
		return "; " + k.Kept()
	}
	return ""
}

// exitCode sorts errors into the documented classes. What is not known to be
// the environment's fault is a refusal of the input.
func exitCode(err error) int {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.Is(err, errCheckFailed):
		return exitCheckFailed
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, eval.ErrNoLibrary), errors.Is(err, convert.ErrMemory), errors.Is(err, mount.ErrUnavailable),
		errors.Is(err, enginebench.ErrMemory),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EIO),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EDQUOT), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return exitEnvironment
	case errors.Is(err, native.ErrNoCompiler), errors.Is(err, native.ErrBuild), errors.Is(err, native.ErrPlatform), errors.Is(err, llama.ErrNoNative):
		return exitEnvironment
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL):
		return exitEnvironment
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist):
		return exitRefused
	case errors.As(err, &path), errors.As(err, &link):
		return exitEnvironment
	}
	return exitRefused
}

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "besa",
		Short: "prune and quantise language models into sparse GGUF",
		Long: `besa makes language models smaller: it learns which weights of every row of
every linear layer can go (BESA, ICLR 2024), quantises the survivors to 4 bits in
the same optimisation, and writes a sparse GGUF that expands bit-exactly to an
ordinary one for any llama.cpp-based application.`,
		Example: `  besa convert --joint-q4 --calib text.txt model.gguf -o model.sparse.gguf
  besa expand model.sparse.gguf -o model-S50-Q4_0.gguf
  besa eval ppl --data wiki.valid.raw model.sparse.gguf
  besa demo`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return kernel.Select()
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.AddCommand(newConvert(std), newExpand(std), newPack(std), newVerify(std), newInspect(std), newMount(std), newEval(std), newRun(std),
		newServe(std), newNative(std), newDemo(std), newBench(std), newAblate(std))
	return root
}

// printJSON writes one indented document.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

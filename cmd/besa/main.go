// Command besa prunes and quantises large language models into sparse GGUF
// files, expands them for llama.cpp-based applications, and measures what that
// costs.
//
// In: model files and text. Out: results on stdout, progress and messages on
// stderr, and an exit code: 0 fine, 1 a check failed, 2 usage or input
// refused, 3 the environment (disk, library, memory), 130 interrupted.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainCode()) }

// mainCode runs the tool as the operating system sees it.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second interrupt ends the process at once.
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
}

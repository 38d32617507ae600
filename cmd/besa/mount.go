package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"besa/internal/mount"
	"besa/sparsefmt"
)

type mountOptions struct {
	input, dir, name                string
	verify, allowOther, json, quiet bool
}

// mountResult is printed when the file is there.
type mountResult struct {
	Input     string `json:"input"`
	Path      string `json:"path"`
	FileBytes int64  `json:"file_bytes"`
}

func newMount(std streams) *cobra.Command {
	o := &mountOptions{}
	c := &cobra.Command{
		Use:   "mount SPARSE.gguf DIR",
		Short: "show the expanded GGUF as a file that takes no room on disk",
		Long: `Mount shows the ordinary GGUF that a sparse GGUF stands for as a file in DIR, an
empty directory, through FUSE. Any llama.cpp-based application opens it; what it
reads is expanded at that moment and kept in memory as the system sees fit. The
file is there until Ctrl-C, or until somebody unmounts DIR.`,
		Example: `  mkdir models && besa mount model.sparse.gguf models
  besa mount --name model-S50-Q4_0.gguf model.sparse.gguf models &`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			o.input, o.dir = args[0], args[1]
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "name of the file in DIR (default: the input's, without .sparse)")
	f.BoolVar(&o.verify, "verify", false, "compare all checksums before")
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users read the file (needs user_allow_other in /etc/fuse.conf, unless root)")
	f.BoolVar(&o.json, "json", false, "print the file's name and size as JSON when it is there")
	f.BoolVar(&o.quiet, "quiet", false, "say nothing but errors")
	return c
}

// mountedName is the expanded file's name after the sparse one's.
func mountedName(input string) string {
	base := strings.TrimSuffix(filepath.Base(input), ".gguf")
	base = partSuffix.ReplaceAllString(base, "")
	return strings.TrimSuffix(base, ".sparse") + ".gguf"
}

func (o *mountOptions) run(ctx context.Context, std streams) error {
	// A terminal that is closed must not leave a directory that answers nothing.
	if !signal.Ignored(syscall.SIGHUP) {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	if o.name == "" {
		o.name = mountedName(o.input)
	}
	if o.name != filepath.Base(o.name) || o.name == "." || o.name == ".." {
		return fmt.Errorf("--name %s: must be a name without folders", o.name)
	}
	if o.verify {
		if _, err := sparsefmt.Verify(ctx, o.input); err != nil {
			return err
		}
	}
	f, err := sparsefmt.Open(o.input)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := os.Stat(o.input)
	if err != nil {
		return err
	}
	d := f.DenseReader()
	var once sync.Once
	m, err := mount.New(o.dir, mount.File{Name: o.name, Size: d.Size(), ModTime: info.ModTime(), Data: d}, mount.Options{
		AllowOther: o.allowOther,
		OnError: func(err error) {
			once.Do(func() { fmt.Fprintln(std.err, "besa: what is read is damaged:", err) })
		},
	})
	if err != nil {
		return err
	}
	if err := o.announce(std, mountResult{o.input, m.Path(), d.Size()}); err != nil {
		return err
	}
	o.serve(ctx, std, m)
	return nil
}

func (o *mountOptions) announce(std streams, r mountResult) error {
	switch {
	case o.json:
		return printJSON(std.out, r)
	case !o.quiet:
		_, err := fmt.Fprintf(std.out, "%s: %s, there until Ctrl-C (or %s)\n", r.Path, size(r.FileBytes), mount.UnmountCommand(o.dir, false))
		return err
	}
	return nil
}

// serve waits until the directory is unmounted, from outside or, after an
// interrupt, by itself as soon as nobody uses it.
func (o *mountOptions) serve(ctx context.Context, std streams, m *mount.Mount) {
	gone := make(chan struct{})
	go func() {
		m.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for told := false; ; {
		err := m.Unmount()
		if err == nil {
			return
		}
		if !told {
			fmt.Fprintf(std.err, "besa: %v; it goes when the last program lets go of it (at once: %s)\n", err, mount.UnmountCommand(o.dir, true))
			told = true
		}
		select {
		case <-gone:
			return
		case <-time.After(time.Second):
		}
	}
}

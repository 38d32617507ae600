package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"besa/internal/generate"
	"besa/internal/serve"
)

type serveOptions struct {
	modelFlags
	host     string
	port     int
	parallel int
	queue    int
	maxBody  int64
	timeout  int
	apiKey   string
	alias    string
}

// defaultShared bounds the context of all requests where --ctx-size does not say.
const defaultShared = 8192

// shutdownGrace is how long requests under way may take to finish.
const shutdownGrace = 10 * time.Second

// maxParallel is llama.cpp's limit on sequences, less than half: each costs memory.
const maxParallel = 64

func newServe(std streams) *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{
		Use:   "serve MODEL.gguf",
		Short: "answer OpenAI-style HTTP requests with a model, through llama.cpp",
		Long: `Serve answers /v1/completions, /v1/chat/completions (both also streamed), /v1/models,
/health and /metrics. Up to --parallel requests generate at once and share every batch;
--queue more may wait, the rest get status 429. The sampling options are defaults for
requests that do not say. It listens on 127.0.0.1 unless told otherwise. An interrupt
lets requests under way finish for 10 seconds; a second one ends the process.`,
		Example: `  besa serve model.sparse.gguf --port 8080
  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "Once upon a time", "max_tokens": 50}'
  BESA_API_KEY=secret besa serve model.gguf --host 0.0.0.0 --parallel 8 --ctx-size 16384`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return o.run(c.Context(), std, args[0])
		},
	}
	o.add(c)
	f := c.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 8080, "port to listen on (0: any free one)")
	f.IntVar(&o.parallel, "parallel", 4, "requests that generate at once")
	f.IntVarP(&o.context, "ctx-size", "c", 0, fmt.Sprintf("tokens of context, shared evenly by --parallel (default: the model's for each, at most %d in all)", defaultShared))
	f.IntVar(&o.queue, "queue", 32, "requests that may wait")
	f.Int64Var(&o.maxBody, "max-body", 1<<20, "bytes of a request")
	f.IntVar(&o.timeout, "timeout", 600, "seconds a request may take, waiting included (0: no limit)")
	f.StringVar(&o.apiKey, "api-key", "", "key that clients must send (default: $BESA_API_KEY)")
	f.StringVar(&o.alias, "alias", "", "the model's name for clients (default: the file's)")
	return c
}

// complete checks the flags.
func (o *serveOptions) complete() error {
	if err := o.modelFlags.complete(); err != nil {
		return err
	}
	if o.apiKey == "" {
		o.apiKey = os.Getenv("BESA_API_KEY")
	}
	for _, f := range []struct {
		name           string
		value, low, hi int64
	}{
		{"port", int64(o.port), 0, 65535}, {"parallel", int64(o.parallel), 1, maxParallel}, {"queue", int64(o.queue), 0, 1 << 20},
		{"max-body", o.maxBody, 1, 1 << 30}, {"timeout", int64(o.timeout), 0, 1 << 30},
	} {
		if f.value < f.low || f.value > f.hi {
			return fmt.Errorf("--%s %d: must be %d to %d", f.name, f.value, f.low, f.hi)
		}
	}
	return nil
}

func (o *serveOptions) run(ctx context.Context, std streams, path string) error {
	// Before the model: a port that is taken should show at once.
	l, err := net.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)))
	if err != nil {
		return err
	}
	defer l.Close()
	m, err := o.load(ctx, std, path)
	if err != nil {
		return err
	}
	defer m.Close()
	length := o.context / o.parallel
	if o.context == 0 {
		length = min(m.TrainedContext(), defaultShared/o.parallel)
	}
	e, err := generate.New(m, generate.Options{Context: length, Parallel: o.parallel, Queue: o.queue, UBatch: o.ubatch, Threads: o.threads})
	if err != nil {
		return err
	}
	defer e.Close()
	if o.alias == "" {
		o.alias = strings.TrimSuffix(filepath.Base(path), ".gguf")
	}
	s := serve.New(serve.Options{
		Model: m, Engine: e, Name: o.alias, ChatTemplate: o.template, Sampling: o.Sampling, FixedSeed: o.seed >= 0,
		MaxTokens: o.maxTokens(), MaxBody: o.maxBody, Timeout: time.Duration(o.timeout) * time.Second,
		APIKey: o.apiKey, Log: o.logger(std.err),
	})
	if !o.quiet {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && o.apiKey == "" {
			fmt.Fprintln(std.err, "warning: other machines can use this server, and there is no --api-key")
		}
		fmt.Fprintf(std.err, "listening on http://%s (%d × %d tokens of context)\n", l.Addr(), o.parallel, e.Context())
	}
	if err := s.Run(ctx, l, shutdownGrace); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// logger writes failures, and with --verbose every request, to w.
func (o *serveOptions) logger(w io.Writer) *slog.Logger {
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// Package serve answers HTTP requests in the shape of OpenAI's API with one
// model: /v1/completions, /v1/chat/completions (both also as a stream of
// server-sent events), /v1/models, /health and /metrics. In: requests of
// bounded size, which are checked in full before the engine sees them. Out:
// JSON, errors included.
package serve

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"besa/internal/generate"
	"besa/internal/llama"
)

// Options configures [New].
type Options struct {
	Model        *llama.Model
	Engine       *generate.Engine
	Name         string         // the model's name for clients
	ChatTemplate string         // overrides the model's own
	Sampling     llama.Sampling // where a request does not say; its Seed counts with FixedSeed only
	FixedSeed    bool           // else every request without a seed gets one at random
	MaxTokens    int            // where a request does not say; 0: until the context is full
	MaxBody      int64          // bytes of a request
	Timeout      time.Duration  // of a request, waiting included; 0: none
	APIKey       string         // clients must send it; "": none
	Log          *slog.Logger
}

// Times that clients get.
const (
	headerTime = 10 * time.Second // to send a request's header
	bodyTime   = 30 * time.Second // to send its body
	writeTime  = 30 * time.Second // to take a piece of the answer
	idleTime   = 2 * time.Minute  // between requests

	farewellTime = 2 * time.Second // to take the error that ends a request at shutdown
)

// Server answers requests.
type Server struct {
	o        Options
	started  time.Time
	draining atomic.Bool
	requests requestCounter
	handler  http.Handler
}

// New makes a server.
func New(o Options) *Server {
	s := &Server{o: o, started: time.Now()}
	api := http.NewServeMux()
	api.HandleFunc("/v1/completions", only(http.MethodPost, s.completions))
	api.HandleFunc("/v1/chat/completions", only(http.MethodPost, s.chat))
	api.HandleFunc("/v1/models", only(http.MethodGet, s.models))
	api.HandleFunc("/metrics", only(http.MethodGet, s.metrics))
	api.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, kind: invalidRequest, message: "no such path: " + r.URL.Path})
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/health", only(http.MethodGet, s.health))
	mux.Handle("/", s.authorised(api))
	// Web pages of other origins must not use a server on this machine.
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, &apiError{status: http.StatusForbidden, kind: invalidRequest, message: "pages of other origins may not use this server"})
	}))
	s.handler = s.counted(origins.Handler(mux))
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run answers requests until ctx ends, then lets those under way finish for as
// long as grace, and ends the rest.
func (s *Server) Run(ctx context.Context, l net.Listener, grace time.Duration) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.draining.Store(true)
	patience, stop := context.WithTimeout(base, grace)
	defer stop()
	err := h.Shutdown(patience)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cancel() // the handlers notice, and say so to their clients
	farewell, stop := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
	defer stop()
	if h.Shutdown(farewell) == nil {
		return nil
	}
	return h.Close()
}

// only answers other methods with an error.
func only(method string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", method)
			writeError(w, &apiError{status: http.StatusMethodNotAllowed, kind: invalidRequest, message: r.Method + " is not for " + r.URL.Path + "; use " + method})
			return
		}
		h(w, r)
	}
}

// authorised demands the API key, if there is one.
func (s *Server) authorised(h http.Handler) http.Handler {
	if s.o.APIKey == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(key), []byte(s.o.APIKey)) != 1 {
			writeError(w, &apiError{status: http.StatusUnauthorized, kind: "authentication_error", message: "the API key is missing or wrong: send Authorization: Bearer KEY"})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// health says whether the server takes requests.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "shutting down"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// models lists the one model.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	writeJSON(w, http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", []model{{s.o.Name, "model", s.started.Unix(), "besa"}}})
}

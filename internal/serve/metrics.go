package serve

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// requestCounter counts answered requests by path and status.
type requestCounter struct {
	mu     sync.Mutex
	counts map[answered]int64
}

type answered struct {
	path   string
	status int
}

// known are the paths that are counted by name: what clients make up must not
// fill the memory.
var known = []string{"/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics"}

// counted counts requests and logs them.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r)
		path := r.URL.Path
		if !slices.Contains(known, path) {
			path = "other"
		}
		s.requests.mu.Lock()
		if s.requests.counts == nil {
			s.requests.counts = map[answered]int64{}
		}
		s.requests.counts[answered{path, rec.status}]++
		s.requests.mu.Unlock()
		s.o.Log.Info("request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "seconds", time.Since(began).Seconds())
	})
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets [http.ResponseController] reach deadlines and flushing.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// metrics answers in the text format of Prometheus.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	st := s.o.Engine.Stats()
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"requests_running", "gauge", "Requests that generate now.", float64(st.Running)},
		{"requests_waiting", "gauge", "Requests in the queue now.", float64(st.Waiting)},
		{"requests_completed_total", "counter", "Requests whose text is complete.", float64(st.Completed)},
		{"requests_cancelled_total", "counter", "Requests given up by the client or by a timeout.", float64(st.Cancelled)},
		{"requests_failed_total", "counter", "Requests that failed in the model.", float64(st.Failed)},
		{"requests_refused_total", "counter", "Requests refused because the queue was full.", float64(st.Refused)},
		{"prompt_tokens_total", "counter", "Tokens of prompts.", float64(st.PromptTokens)},
		{"cached_tokens_total", "counter", "Tokens of prompts that were known from an earlier request.", float64(st.CachedTokens)},
		{"generated_tokens_total", "counter", "Generated tokens.", float64(st.GeneratedTokens)},
		{"decodes_total", "counter", "Batches decoded.", float64(st.Decodes)},
		{"decode_failures_total", "counter", "Batches that llama.cpp failed to decode.", float64(st.DecodeFailures)},
		{"decode_seconds_total", "counter", "Time spent decoding.", st.Decoding.Seconds()},
		{"context_tokens", "gauge", "Tokens a prompt and its continuation can have.", float64(s.o.Engine.Context())},
		{"start_time_seconds", "gauge", "When the server started, in seconds since 1970.", float64(s.started.Unix())},
	} {
		fmt.Fprintf(&b, "# HELP besa_%s %s\n# TYPE besa_%s %s\nbesa_%s %v\n", m.name, m.help, m.name, m.kind, m.name, m.value)
	}
	fmt.Fprint(&b, "# HELP besa_http_requests_total Answered requests.\n# TYPE besa_http_requests_total counter\n")
	s.requests.mu.Lock()
	counts := maps.Clone(s.requests.counts)
	s.requests.mu.Unlock()
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(x, y answered) int {
		return cmp.Or(cmp.Compare(x.path, y.path), cmp.Compare(x.status, y.status))
	}) {
		fmt.Fprintf(&b, "besa_http_requests_total{path=%q,code=\"%d\"} %d\n", k.path, k.status, counts[k])
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write([]byte(b.String())) // a scraper that is gone is nobody's error
}

package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"besa/internal/generate"
)

// answer is a response in either shape; the pointers say which.
type answer struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
}

type choice struct {
	Index        int       `json:"index"`
	Text         *string   `json:"text,omitempty"`    // completions
	Message      *chatText `json:"message,omitempty"` // chat
	Delta        *chatText `json:"delta,omitempty"`   // chat, streamed
	Logprobs     any       `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
	Details          struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func usageOf(r generate.Result) *usage {
	u := &usage{PromptTokens: r.PromptTokens, CompletionTokens: r.Tokens, TotalTokens: r.PromptTokens + r.Tokens}
	u.Details.CachedTokens = r.CachedTokens
	return u
}

// shape is what tells completions from chats.
type shape struct {
	prefix         string // of identifiers
	whole, partial string // names of the objects
	logprobs       func(*logprobState, []generate.Token) any
	choice         func(text string, partial bool) choice
	opening        bool // a stream begins with an empty piece that names the role
}

var completionShape = shape{
	prefix: "cmpl", whole: "text_completion", partial: "text_completion", logprobs: completionLogprobs,
	choice: func(text string, _ bool) choice { return choice{Text: &text} },
}

var chatShape = shape{
	prefix: "chatcmpl", whole: "chat.completion", partial: "chat.completion.chunk", logprobs: chatLogprobs, opening: true,
	choice: func(text string, partial bool) choice {
		if partial {
			return choice{Delta: &chatText{Content: &text}}
		}
		return choice{Message: &chatText{Role: "assistant", Content: &text}}
	},
}

func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	var c completionRequest
	s.respond(w, r, &c, func() (generate.Request, error) { return c.request(s) }, &c.options, completionShape)
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var c chatRequest
	s.respond(w, r, &c, func() (generate.Request, error) { return c.request(s) }, &c.options, chatShape)
}

// respond decodes, checks, generates and answers.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, into any, check func() (generate.Request, error), o *options, sh shape) {
	if err := s.decode(w, r, into); err != nil {
		writeError(w, asAPIError(err))
		return
	}
	req, err := check()
	if err != nil {
		writeError(w, asAPIError(err))
		return
	}
	ctx := r.Context()
	if s.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.o.Timeout)
		defer cancel()
	}
	a := answer{ID: identifier(sh.prefix), Object: sh.whole, Created: time.Now().Unix(), Model: s.o.Name}
	if o.Stream {
		a.Object = sh.partial
		st := &stream{w: w, control: http.NewResponseController(w), answer: a, shape: sh}
		result, err := s.o.Engine.Generate(ctx, req, st.piece)
		s.logFailure(err)
		st.end(result, err, o.StreamOptions.IncludeUsage)
		return
	}
	var text strings.Builder
	var tokens []generate.Token
	result, err := s.o.Engine.Generate(ctx, req, func(c generate.Chunk) error {
		text.WriteString(c.Text)
		tokens = append(tokens, c.Tokens...)
		return nil
	})
	if err != nil {
		s.logFailure(err)
		writeError(w, asAPIError(err))
		return
	}
	ch := sh.choice(text.String(), false)
	ch.FinishReason = finish(result)
	if req.Logprobs >= 0 {
		ch.Logprobs = sh.logprobs(&logprobState{}, tokens)
	}
	a.Choices, a.Usage = []choice{ch}, usageOf(result)
	writeJSON(w, http.StatusOK, a)
}

// errGone means that a client takes no more of its answer.
var errGone = errors.New("the client is gone")

// logFailure records errors whose text clients do not get.
func (s *Server) logFailure(err error) {
	if err != nil && !errors.Is(err, errGone) && asAPIError(err).status == http.StatusInternalServerError {
		s.o.Log.Error("generation failed", "error", err)
	}
}

func finish(r generate.Result) *string {
	reason := string(r.Finish)
	return &reason
}

// stream sends an answer as server-sent events. Its header goes out with the
// first piece, so that errors before it have a status of their own.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	answer  answer
	shape   shape
	state   logprobState
	open    bool
}

// piece sends a piece of text.
func (st *stream) piece(c generate.Chunk) error {
	if err := st.begin(); err != nil {
		return err
	}
	ch := st.shape.choice(c.Text, true)
	if c.Tokens != nil {
		ch.Logprobs = st.shape.logprobs(&st.state, c.Tokens)
	}
	return st.send(ch)
}

// begin sends the header, once.
func (st *stream) begin() error {
	if st.open {
		return nil
	}
	st.open = true
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no") // proxies must pass pieces on at once
	if !st.shape.opening {
		return nil
	}
	empty := ""
	return st.send(choice{Delta: &chatText{Role: "assistant", Content: &empty}})
}

// end sends why the text ended, or the error.
func (st *stream) end(r generate.Result, err error, includeUsage bool) {
	if err != nil {
		if !st.open {
			writeError(st.w, asAPIError(err))
			return
		}
		_ = st.event(asAPIError(err).body()) // the client may be gone
		return
	}
	ch := st.shape.choice("", true)
	if ch.Delta != nil {
		ch.Delta.Content = nil
	}
	ch.FinishReason = finish(r)
	if st.begin() != nil || st.send(ch) != nil {
		return
	}
	if includeUsage {
		st.answer.Choices, st.answer.Usage = []choice{}, usageOf(r)
		if st.event(st.answer) != nil {
			return
		}
	}
	_ = st.write([]byte("data: [DONE]\n\n"))
}

func (st *stream) send(c choice) error {
	st.answer.Choices = []choice{c}
	return st.event(st.answer)
}

func (st *stream) event(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return st.write(append(append([]byte("data: "), data...), "\n\n"...))
}

// write sends bytes at once; a client that does not take them in time is gone.
func (st *stream) write(b []byte) error {
	_ = st.control.SetWriteDeadline(time.Now().Add(writeTime)) // not every writer has deadlines
	_, err := st.w.Write(b)
	if err == nil {
		err = st.control.Flush()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

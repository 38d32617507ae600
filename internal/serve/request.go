package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"besa/internal/generate"
	"besa/internal/llama"
)

// options are the fields that both kinds of requests have: OpenAI's, and
// llama.cpp's where OpenAI has none. Unknown fields are ignored; fields that
// would change the answer in a way this server cannot are refused.
type options struct {
	MaxTokens        *int     `json:"max_tokens"`
	Temperature      *float64 `json:"temperature"`
	TopP             *float64 `json:"top_p"`
	TopK             *int     `json:"top_k"`
	MinP             *float64 `json:"min_p"`
	Seed             *int64   `json:"seed"`
	RepeatPenalty    *float64 `json:"repeat_penalty"`
	FrequencyPenalty *float64 `json:"frequency_penalty"`
	PresencePenalty  *float64 `json:"presence_penalty"`
	IgnoreEOS        *bool    `json:"ignore_eos"`
	Stop             stops    `json:"stop"`
	N                *int     `json:"n"`
	Stream           bool     `json:"stream"`
	StreamOptions    struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	LogitBias      map[string]float64 `json:"logit_bias"`
	Tools          []json.RawMessage  `json:"tools"`
	Functions      []json.RawMessage  `json:"functions"`
	Grammar        string             `json:"grammar"`
	JSONSchema     json.RawMessage    `json:"json_schema"`
	ResponseFormat struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

// completionRequest is the body of /v1/completions.
type completionRequest struct {
	options
	Prompt   prompt `json:"prompt"`
	Logprobs *int   `json:"logprobs"`
	Echo     bool   `json:"echo"`
	Suffix   string `json:"suffix"`
	BestOf   *int   `json:"best_of"`
}

// chatRequest is the body of /v1/chat/completions.
type chatRequest struct {
	options
	Messages            []message `json:"messages"`
	MaxCompletionTokens *int      `json:"max_completion_tokens"`
	Logprobs            bool      `json:"logprobs"`
	TopLogprobs         int       `json:"top_logprobs"`
}

// stops is one stop string or several.
type stops []string

// UnmarshalJSON implements [json.Unmarshaler].
func (s *stops) UnmarshalJSON(data []byte) error {
	var one *string
	if json.Unmarshal(data, &one) == nil {
		*s = nil
		if one != nil {
			*s = stops{*one}
		}
		return nil
	}
	if json.Unmarshal(data, (*[]string)(s)) != nil {
		return refuse("stop", "stop must be a string or an array of strings")
	}
	return nil
}

// prompt is one text, as a string or as token ids.
type prompt struct {
	text   string
	tokens []int32
}

// UnmarshalJSON implements [json.Unmarshaler].
func (p *prompt) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &p.text) == nil {
		return nil
	}
	if json.Unmarshal(data, &p.tokens) == nil {
		return nil
	}
	var texts []string
	if json.Unmarshal(data, &texts) == nil && len(texts) == 1 {
		p.text = texts[0]
		return nil
	}
	return refuse("prompt", "prompt must be one string, or one array of token ids; several prompts take several requests")
}

// message is a turn of a conversation; its content may come in parts.
type message llama.Message

// UnmarshalJSON implements [json.Unmarshaler].
func (m *message) UnmarshalJSON(data []byte) error {
	var raw struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if json.Unmarshal(data, &raw) != nil {
		return refuse("messages", "a message must be an object with role and content")
	}
	if raw.Role == "" {
		return refuse("messages", "a message has no role")
	}
	m.Role = raw.Role
	if len(raw.Content) == 0 || json.Unmarshal(raw.Content, &m.Content) == nil {
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(raw.Content, &parts) != nil {
		return refuse("messages", "a message's content must be a string or an array of parts")
	}
	var text strings.Builder
	for _, part := range parts {
		if part.Type != "text" {
			return refuse("messages", "a part of type %q; this model reads text only", part.Type)
		}
		text.WriteString(part.Text)
	}
	m.Content = text.String()
	return nil
}

// decode reads a request's body: one JSON document of bounded size that comes
// in bounded time.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, into any) error {
	// Not every writer has deadlines; net/http's has.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
	_ = control.SetReadDeadline(time.Time{})
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return err
		}
		return refuse("", "the body cannot be read: %v", err)
	}
	err = json.Unmarshal(body, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := strings.TrimPrefix(wrong.Field, "options.")
		if field == "" {
			return refuse("", "the body must be a JSON object, not a JSON %s", wrong.Value)
		}
		return refuse(field, "%s must not be a JSON %s", field, wrong.Value)
	}
	if own, ok := errors.AsType[*apiError](err); ok {
		return own
	}
	if err != nil {
		return refuse("", "the body is no JSON document: %v", err)
	}
	return nil
}

// request turns the common fields into a request; the prompt is still missing.
func (o *options) request(s *Server) (generate.Request, error) {
	for _, unsupported := range []struct {
		param string
		given bool
	}{
		{"n", o.N != nil && *o.N != 1}, {"logit_bias", len(o.LogitBias) > 0},
		{"tools", len(o.Tools) > 0}, {"functions", len(o.Functions) > 0},
		{"grammar", o.Grammar != ""}, {"json_schema", len(o.JSONSchema) > 0 && string(o.JSONSchema) != "null"},
		{"response_format", o.ResponseFormat.Type != "" && o.ResponseFormat.Type != "text"},
	} {
		if unsupported.given {
			return generate.Request{}, refuse(unsupported.param, "this server does not support %s", unsupported.param)
		}
	}
	req := generate.Request{MaxTokens: s.o.MaxTokens, Sampling: s.o.Sampling, Stop: o.Stop, Logprobs: -1}
	if o.MaxTokens != nil {
		if *o.MaxTokens < 1 {
			return req, refuse("max_tokens", "max_tokens is %d, must be at least 1", *o.MaxTokens)
		}
		req.MaxTokens = *o.MaxTokens
	}
	p := &req.Sampling
	set(&p.Temperature, o.Temperature)
	set(&p.TopP, o.TopP)
	set(&p.TopK, o.TopK)
	set(&p.MinP, o.MinP)
	set(&p.RepeatPenalty, o.RepeatPenalty)
	set(&p.FrequencyPenalty, o.FrequencyPenalty)
	set(&p.PresencePenalty, o.PresencePenalty)
	set(&p.IgnoreEOS, o.IgnoreEOS)
	switch {
	case o.Seed != nil:
		p.Seed = uint32(*o.Seed)
	case !s.o.FixedSeed:
		p.Seed = rand.Uint32()
	}
	return req, p.Validate()
}

func set[T any](field *T, given *T) {
	if given != nil {
		*field = *given
	}
}

// request checks the fields of a completion.
func (c *completionRequest) request(s *Server) (generate.Request, error) {
	req, err := c.options.request(s)
	if err != nil {
		return req, err
	}
	switch {
	case c.Echo:
		return req, refuse("echo", "this server does not support echo")
	case c.Suffix != "":
		return req, refuse("suffix", "this server does not support suffix")
	case c.BestOf != nil && *c.BestOf != 1:
		return req, refuse("best_of", "this server does not support best_of")
	}
	if c.Logprobs != nil {
		if err := checkLogprobs("logprobs", *c.Logprobs); err != nil {
			return req, err
		}
		req.Logprobs = *c.Logprobs
	}
	if c.Prompt.tokens != nil {
		req.Prompt = c.Prompt.tokens
		return req, nil
	}
	return req, s.tokenize(&req, "prompt", c.Prompt.text, false)
}

// request checks the fields of a chat and renders the conversation.
func (c *chatRequest) request(s *Server) (generate.Request, error) {
	if c.MaxCompletionTokens != nil {
		c.MaxTokens = c.MaxCompletionTokens
	}
	req, err := c.options.request(s)
	if err != nil {
		return req, err
	}
	if len(c.Messages) == 0 {
		return req, refuse("messages", "there are no messages")
	}
	if c.Logprobs {
		if err := checkLogprobs("top_logprobs", c.TopLogprobs); err != nil {
			return req, err
		}
		req.Logprobs = c.TopLogprobs
	}
	messages := make([]llama.Message, len(c.Messages))
	for i, m := range c.Messages {
		messages[i] = llama.Message(m)
	}
	text, err := s.o.Model.ChatPrompt(s.o.ChatTemplate, messages)
	if errors.Is(err, llama.ErrNoTemplate) {
		return req, refuse("messages", "%v; or use /v1/completions", err)
	}
	if err != nil {
		return req, refuse("messages", "%v", err)
	}
	return req, s.tokenize(&req, "messages", text, true)
}

func (s *Server) tokenize(req *generate.Request, param, text string, control bool) (err error) {
	if req.Prompt, err = s.o.Model.Tokenize(text, true, control); err != nil {
		return refuse(param, "%v", err)
	}
	return nil
}

func checkLogprobs(param string, n int) error {
	if n < 0 || n > generate.MaxLogprobs {
		return refuse(param, "%s is %d, must be 0 to %d", param, n, generate.MaxLogprobs)
	}
	return nil
}

// identifier makes a name for an answer.
func identifier(prefix string) string {
	return fmt.Sprintf("%s-%016x", prefix, rand.Uint64N(math.MaxUint64))
}

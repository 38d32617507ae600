package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/generate"
	"besa/internal/llama"
)

// service is a running server with the tiny model.
type service struct {
	*httptest.Server
	engine *generate.Engine
}

func start(t testing.TB, e generate.Options, change func(*Options)) *service {
	t.Helper()
	path := demomodel.File(t)
	m, err := llama.Load(context.Background(), path, llama.Options{Library: assets.Path(t, assets.Llama)})
	if err != nil {
		t.Fatal(err)
	}
	e.Threads = 1 // llama.cpp's wait in busy loops
	engine, err := generate.New(m, e)
	if err != nil {
		t.Fatal(err)
	}
	sampling := llama.DefaultSampling()
	sampling.Temperature = 0
	o := Options{
		Model: m, Engine: engine, Name: "demo", ChatTemplate: "chatml", Sampling: sampling,
		MaxBody: 1 << 16, Timeout: time.Minute, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&o)
	}
	s := httptest.NewServer(New(o))
	t.Cleanup(func() {
		s.Close()
		engine.Close()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return &service{s, engine}
}

// post sends a body and returns the status and the answer.
func (s *service) post(t testing.TB, path, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(s.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(t, resp)
}

func (s *service) get(t testing.TB, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(s.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf(t, resp)
}

func answerOf(t testing.TB, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// fields are what tests look at in an answer of either shape.
type fields struct {
	ID, Object, Model string
	Choices           []struct {
		Text           string
		Message, Delta struct{ Role, Content string }
		FinishReason   *string `json:"finish_reason"`
		Logprobs       *struct {
			Tokens        []string
			TokenLogprobs []float64            `json:"token_logprobs"`
			TopLogprobs   []map[string]float64 `json:"top_logprobs"`
			TextOffset    []int                `json:"text_offset"`
			Content       []struct {
				Token   string
				Logprob float64
				Bytes   []byte                      `json:"-"`
				Top     []struct{ Logprob float64 } `json:"top_logprobs"`
			}
		}
	}
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	Error *struct{ Message, Type, Param, Code string }
}

func parse(t testing.TB, body string) (f fields) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return f
}

// events reads a stream of server-sent events up to its end.
func events(t testing.TB, body string) (all []fields, done bool) {
	t.Helper()
	for _, event := range strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(event, "data: ")
		if !ok || done {
			t.Fatalf("no event: %q", event)
		}
		if done = data == "[DONE]"; !done {
			all = append(all, parse(t, data))
		}
	}
	return all, done
}

const genesis = `"prompt": "In the beginning God created", "max_tokens": 12`

func TestCompletions(t *testing.T) {
	s := start(t, generate.Options{Context: 256, Parallel: 2, Queue: 4}, nil)
	status, body := s.post(t, "/v1/completions", `{`+genesis+`, "user": "nobody", "logprobs": 2}`)
	whole := parse(t, body)
	if status != http.StatusOK || whole.Object != "text_completion" || whole.Model != "demo" || len(whole.Choices) != 1 {
		t.Fatalf("%d: %s", status, body)
	}
	c := whole.Choices[0]
	if c.Text == "" || *c.FinishReason != "length" || whole.Usage.Completion != 12 || whole.Usage.Total != whole.Usage.Prompt+12 {
		t.Errorf("%s", body)
	}
	if l := c.Logprobs; l == nil || len(l.Tokens) != 12 || len(l.TopLogprobs[3]) != 2 || l.TextOffset[1] != len(l.Tokens[0]) || strings.Join(l.Tokens, "") != c.Text {
		t.Errorf("logprobs: %s", body)
	}

	status, body = s.post(t, "/v1/completions", `{`+genesis+`, "stream": true, "stream_options": {"include_usage": true}, "logprobs": 0}`)
	pieces, done := events(t, body)
	text := ""
	for _, p := range pieces {
		for _, c := range p.Choices {
			text += c.Text
		}
		if p.ID != pieces[0].ID || p.Object != "text_completion" {
			t.Errorf("%+v", p)
		}
	}
	last, beforeLast := pieces[len(pieces)-1], pieces[len(pieces)-2]
	if status != http.StatusOK || !done || text != c.Text || last.Usage == nil || last.Usage.Completion != 12 || len(last.Choices) != 0 {
		t.Errorf("%d: streamed %q, want %q, %+v", status, text, c.Text, last)
	}
	if r := beforeLast.Choices[0].FinishReason; r == nil || *r != "length" || pieces[0].Choices[0].FinishReason != nil || pieces[0].Choices[0].Logprobs == nil {
		t.Errorf("%s", body)
	}

	word := strings.Fields(c.Text)[1]
	want, _, _ := strings.Cut(c.Text, word)
	for _, stop := range []string{fmt.Sprintf("%q", word), fmt.Sprintf(`["never", %q]`, word)} {
		status, body = s.post(t, "/v1/completions", `{`+genesis+`, "stop": `+stop+`}`)
		if f := parse(t, body); status != http.StatusOK || f.Choices[0].Text != want || *f.Choices[0].FinishReason != "stop" {
			t.Errorf("stop %s: %s", stop, body)
		}
	}
	if status, body = s.post(t, "/v1/completions", `{"prompt": [0, 5, 9], "max_tokens": 2}`); status != http.StatusOK || parse(t, body).Usage.Prompt != 3 {
		t.Errorf("tokens as prompt: %d: %s", status, body)
	}
	seeded := `{` + genesis + `, "temperature": 1.5, "top_p": 1, "top_k": 0, "min_p": 0, "seed": 7}`
	_, first := s.post(t, "/v1/completions", seeded)
	_, second := s.post(t, "/v1/completions", seeded)
	if a, b := parse(t, first).Choices[0].Text, parse(t, second).Choices[0].Text; a != b || a == c.Text {
		t.Errorf("seed 7: %q and %q", a, b)
	}
}

func TestChat(t *testing.T) {
	s := start(t, generate.Options{Context: 256, Parallel: 2, Queue: 4}, nil)
	const talk = `"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Who "}, {"type": "text", "text": "are you?"}]}], "max_completion_tokens": 10`
	status, body := s.post(t, "/v1/chat/completions", `{`+talk+`, "logprobs": true, "top_logprobs": 2}`)
	whole := parse(t, body)
	if status != http.StatusOK || whole.Object != "chat.completion" || whole.Choices[0].Message.Role != "assistant" || whole.Choices[0].Message.Content == "" {
		t.Fatalf("%d: %s", status, body)
	}
	if l := whole.Choices[0].Logprobs; l == nil || len(l.Content) == 0 || len(l.Content[0].Top) != 2 || l.Content[0].Top[0].Logprob != l.Content[0].Logprob {
		t.Errorf("logprobs: %s", body)
	}
	status, body = s.post(t, "/v1/chat/completions", `{`+talk+`, "stream": true}`)
	pieces, done := events(t, body)
	text := ""
	for _, p := range pieces {
		text += p.Choices[0].Delta.Content
	}
	if status != http.StatusOK || !done || text != whole.Choices[0].Message.Content || pieces[0].Object != "chat.completion.chunk" ||
		pieces[0].Choices[0].Delta.Role != "assistant" || *pieces[len(pieces)-1].Choices[0].FinishReason != "length" {
		t.Errorf("%d: streamed %q, want %q: %s", status, text, whole.Choices[0].Message.Content, body)
	}

	plain := start(t, generate.Options{Context: 64, Parallel: 1}, func(o *Options) { o.ChatTemplate = "" })
	if status, body = plain.post(t, "/v1/chat/completions", `{`+talk+`}`); status != http.StatusBadRequest || !strings.Contains(body, "no usable chat template") {
		t.Errorf("no template: %d: %s", status, body)
	}
}

func TestRefuses(t *testing.T) {
	s := start(t, generate.Options{Context: 64, Parallel: 1, Queue: 4}, nil)
	completion := func(more string) string { return `{` + genesis + `, ` + more + `}` }
	for _, c := range []struct {
		path, body string
		status     int
		param, in  string
	}{
		{"/v1/completions", ``, 400, "", "no JSON document"},
		{"/v1/completions", `{"prompt": "a"`, 400, "", "no JSON document"},
		{"/v1/completions", `{"prompt": "a"} {}`, 400, "", "no JSON document"},
		{"/v1/completions", `[]`, 400, "", "must be a JSON object, not a JSON array"},
		{"/v1/completions", `{"prompt": ["a", "b"]}`, 400, "prompt", "one string"},
		{"/v1/completions", `{"prompt": {"a": 1}}`, 400, "prompt", "one string"},
		{"/v1/completions", `{"prompt": [99999]}`, 400, "", "outside the vocabulary"},
		{"/v1/completions", `{"prompt": []}`, 400, "", "empty"},
		{"/v1/completions", `{"prompt": "a\u0000b"}`, 400, "prompt", "zero"},
		{"/v1/completions", `{"prompt": "` + strings.Repeat("word ", 100) + `"}`, 400, "", "context of 64"},
		{"/v1/completions", completion(`"temperature": "hot"`), 400, "temperature", "must not be a JSON string"},
		{"/v1/completions", completion(`"temperature": -1`), 400, "", "temperature is -1"},
		{"/v1/completions", completion(`"top_p": 1.5`), 400, "", "top_p is 1.5"},
		{"/v1/completions", `{"prompt": "a", "max_tokens": 0}`, 400, "max_tokens", "at least 1"},
		{"/v1/completions", completion(`"n": 2`), 400, "n", "does not support"},
		{"/v1/completions", completion(`"best_of": 2`), 400, "best_of", "does not support"},
		{"/v1/completions", completion(`"echo": true`), 400, "echo", "does not support"},
		{"/v1/completions", completion(`"suffix": "x"`), 400, "suffix", "does not support"},
		{"/v1/completions", completion(`"logit_bias": {"1": 2}`), 400, "logit_bias", "does not support"},
		{"/v1/completions", completion(`"response_format": {"type": "json_object"}`), 400, "response_format", "does not support"},
		{"/v1/completions", completion(`"grammar": "root ::= [a]"`), 400, "grammar", "does not support"},
		{"/v1/completions", completion(`"json_schema": {}`), 400, "json_schema", "does not support"},
		{"/v1/completions", completion(`"logprobs": 99`), 400, "logprobs", "0 to 20"},
		{"/v1/completions", completion(`"stop": 5`), 400, "stop", "string"},
		{"/v1/completions", completion(`"stop": [""]`), 400, "", "empty stop"},
		{"/v1/completions", completion(`"suffix": "` + strings.Repeat("x", 1<<16) + `"`), 413, "", "65536 bytes"},
		{"/v1/chat/completions", `{"messages": []}`, 400, "messages", "no messages"},
		{"/v1/chat/completions", `{"messages": ["hi"]}`, 400, "messages", "role and content"},
		{"/v1/chat/completions", `{"messages": [{"content": "hi"}]}`, 400, "messages", "no role"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": 5}]}`, 400, "messages", "array of parts"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}`, 400, "messages", "text only"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "hi\u0000"}]}`, 400, "messages", "zero"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "hi"}], "tools": [{}]}`, 400, "tools", "does not support"},
		{"/v1/chat/completions", `{"messages": [{"role": "user", "content": "hi"}], "logprobs": true, "top_logprobs": -1}`, 400, "top_logprobs", "0 to 20"},
		{"/v1/embeddings", `{}`, 404, "", "no such path"},
		{"/v1/models", `{}`, 405, "", "use GET"},
	} {
		status, body := s.post(t, c.path, c.body)
		f := parse(t, body)
		if status != c.status || f.Error == nil || f.Error.Param != c.param || f.Error.Type == "" || !strings.Contains(f.Error.Message, c.in) {
			t.Errorf("%s %.60s: %d: %s", c.path, c.body, status, body)
		}
	}
	if status, body := s.get(t, "/v1/completions"); status != 405 || parse(t, body).Error == nil {
		t.Errorf("GET: %d: %s", status, body)
	}
	// A page of another origin is refused, another machine's program is not.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/completions", strings.NewReader(`{`+genesis+`}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://example.com")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := answerOf(t, resp); status != http.StatusForbidden || parse(t, body).Error == nil {
		t.Errorf("another origin: %d: %s", status, body)
	}
}

func TestAPIKey(t *testing.T) {
	s := start(t, generate.Options{Context: 64, Parallel: 1}, func(o *Options) { o.APIKey = "secret" })
	for key, want := range map[string]int{"": 401, "wrong": 401, "secret": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := answerOf(t, resp); status != want {
			t.Errorf("key %q: %d: %s", key, status, body)
		}
	}
	if status, _ := s.get(t, "/health"); status != http.StatusOK {
		t.Errorf("health needs a key: %d", status)
	}
}

func TestModelsHealthMetrics(t *testing.T) {
	s := start(t, generate.Options{Context: 64, Parallel: 1}, nil)
	if status, body := s.get(t, "/v1/models"); status != 200 || !strings.Contains(body, `"id":"demo"`) {
		t.Errorf("%d: %s", status, body)
	}
	if status, body := s.get(t, "/health"); status != 200 || !strings.Contains(body, `"ok"`) {
		t.Errorf("%d: %s", status, body)
	}
	s.post(t, "/v1/completions", `{`+genesis+`}`)
	s.get(t, "/made/up")
	status, body := s.get(t, "/metrics")
	for _, line := range []string{
		"besa_generated_tokens_total 12", "besa_requests_completed_total 1", "besa_context_tokens 64", "# TYPE besa_requests_running gauge",
		`besa_http_requests_total{path="/v1/completions",code="200"} 1`, `besa_http_requests_total{path="other",code="404"} 1`,
	} {
		if status != 200 || !strings.Contains(body, line+"\n") {
			t.Errorf("%d: no %q in\n%s", status, line, body)
		}
	}
}

const endless = `{"prompt": "In the beginning", "ignore_eos": true, "stream": true}`

// open starts an endless stream and waits for its first event.
func (s *service) open(t testing.TB, ctx context.Context) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/v1/completions", strings.NewReader(endless))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
		t.Fatalf("%q, %v", line, err)
	}
	return resp
}

// slow makes generation take long: a context that short texts do not fill.
var slow = generate.Options{Context: 512, Parallel: 1, Queue: 1}

// TestDisconnect: a client that hangs up frees its sequence at once.
func TestDisconnect(t *testing.T) {
	s := start(t, slow, nil)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		resp := s.open(t, ctx)
		cancel()
		resp.Body.Close()
	}
	if status, body := s.post(t, "/v1/completions", `{`+genesis+`}`); status != http.StatusOK {
		t.Errorf("afterwards: %d: %s", status, body)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		st := s.engine.Stats()
		if st.Running == 0 && st.Waiting == 0 {
			if st.Cancelled == 0 {
				t.Errorf("nothing was cancelled: %+v", st)
			}
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%+v", st)
		}
	}
}

// TestTimeout: time is up before the first piece, which has a status, and after
// it, which has an event.
func TestTimeout(t *testing.T) {
	s := start(t, slow, func(o *Options) { o.Timeout = time.Nanosecond })
	status, body := s.post(t, "/v1/completions", `{`+genesis+`}`)
	if f := parse(t, body); status != http.StatusGatewayTimeout || f.Error.Code != "timeout" {
		t.Errorf("%d: %s", status, body)
	}
	s = start(t, slow, func(o *Options) { o.Timeout = 30 * time.Millisecond })
	status, body = s.post(t, "/v1/completions", endless)
	all, done := events(t, body)
	if last := all[len(all)-1]; status == http.StatusOK && (done || last.Error == nil || last.Error.Code != "timeout") {
		t.Errorf("%d, done %v: %+v", status, done, last)
	}
}

// TestQueueFull: what neither runs nor waits is refused.
func TestQueueFull(t *testing.T) {
	s := start(t, generate.Options{Context: 512, Parallel: 1, Queue: 0}, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for range 20 {
		wg.Go(func() {
			resp, err := http.Post(s.URL+"/v1/completions", "application/json", strings.NewReader(endless))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			mu.Lock()
			defer mu.Unlock()
			count[resp.StatusCode]++
			if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
	wg.Wait()
	if count[200] == 0 || count[429] == 0 || count[200]+count[429] != 20 {
		t.Errorf("statuses %v", count)
	}
}

// TestRun: a request under way is finished when the server is asked to end.
func TestRun(t *testing.T) {
	s := start(t, slow, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	handler := s.Config.Handler.(*Server)
	go func() { ended <- handler.Run(ctx, l, 10*time.Second) }()
	url := "http://" + l.Addr().String()
	resp, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(endless))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, body := answerOf(t, resp); !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("cut short: %.200s", body)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url + "/health"); err == nil {
		t.Error("still answers")
	}
	if status, body := s.get(t, "/health"); status != http.StatusServiceUnavailable {
		t.Errorf("health after the end: %d: %s", status, body)
	}
}

// TestRunCutsShort: what takes longer than the grace ends with an error.
func TestRunCutsShort(t *testing.T) {
	s := start(t, slow, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	handler := s.Config.Handler.(*Server)
	go func() { ended <- handler.Run(ctx, l, 0) }()
	resp, err := http.Post("http://"+l.Addr().String()+"/v1/completions", "application/json", strings.NewReader(endless))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, body := answerOf(t, resp); !strings.Contains(body, `"code":"shutting_down"`) || strings.Contains(body, "[DONE]") {
		t.Errorf("ends without a word: %.300s", body)
	}
}

// FuzzRequests sends bodies; whatever they hold, the answer is JSON.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		`{"prompt": "a", "max_tokens": 1}`, `{"prompt": [1], "stop": ["a"], "max_tokens": 2}`, `{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 1}`,
		`{"prompt": "\ud800", "max_tokens": 1}`, `{"seed": -1, "top_k": 1e9, "prompt": "a", "max_tokens": 1}`, `{"temperature": 1e-9, "prompt": "a", "max_tokens": 3}`, `{"repeat_penalty": 0.001, "prompt": "a a a", "max_tokens": 3}`,
	} {
		f.Add([]byte(seed))
	}
	s := start(f, generate.Options{Context: 64, Parallel: 1, Queue: 100}, func(o *Options) { o.MaxTokens = 4 })
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/v1/completions", "/v1/chat/completions"} {
			w := httptest.NewRecorder()
			s.Config.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
			if w.Code >= 500 {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
			if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("no JSON: %s", w.Body)
			}
		}
	})
}

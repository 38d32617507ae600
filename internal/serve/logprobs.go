package serve

import "besa/internal/generate"

// logprobState carries over what the pieces of a stream share.
type logprobState struct{ offset int }

// completionLogprobs describes tokens as /v1/completions does.
func completionLogprobs(state *logprobState, tokens []generate.Token) any {
	out := struct {
		Tokens        []string             `json:"tokens"`
		TokenLogprobs []float64            `json:"token_logprobs"`
		TopLogprobs   []map[string]float64 `json:"top_logprobs"`
		TextOffset    []int                `json:"text_offset"`
	}{[]string{}, []float64{}, []map[string]float64{}, []int{}}
	for _, t := range tokens {
		top := map[string]float64{}
		for _, a := range t.Top {
			top[string(a.Piece)] = a.Logprob
		}
		out.Tokens = append(out.Tokens, string(t.Piece))
		out.TokenLogprobs = append(out.TokenLogprobs, t.Logprob)
		out.TopLogprobs = append(out.TopLogprobs, top)
		out.TextOffset = append(out.TextOffset, state.offset)
		state.offset += len(t.Piece)
	}
	return out
}

// chatLogprob is a token as /v1/chat/completions describes it. Bytes are
// numbers, since they need not be whole characters.
type chatLogprob struct {
	Token   string        `json:"token"`
	Logprob float64       `json:"logprob"`
	Bytes   []int         `json:"bytes"`
	Top     []chatLogprob `json:"top_logprobs,omitempty"`
}

// chatLogprobs describes tokens as /v1/chat/completions does.
func chatLogprobs(_ *logprobState, tokens []generate.Token) any {
	describe := func(piece []byte, logprob float64) chatLogprob {
		l := chatLogprob{Token: string(piece), Logprob: logprob, Bytes: make([]int, len(piece))}
		for i, b := range piece {
			l.Bytes[i] = int(b)
		}
		return l
	}
	content := []chatLogprob{}
	for _, t := range tokens {
		l := describe(t.Piece, t.Logprob)
		for _, a := range t.Top {
			l.Top = append(l.Top, describe(a.Piece, a.Logprob))
		}
		content = append(content, l)
	}
	return map[string]any{"content": content}
}

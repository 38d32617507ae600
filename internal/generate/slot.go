package generate

import (
	"time"

	"besa/internal/llama"
)

// slot is one sequence of the context. Between jobs it remembers its tokens:
// the next turn of a conversation begins with the last one.
type slot struct {
	engine *Engine
	seq    int
	known  []int32 // tokens whose keys and values are cached, or in the batch

	job     *job // nil: free
	sampler *llama.Sampler
	text    text
	tokens  []Token // not given out yet
	next    int32   // to be decoded next, once the prompt is through
	row     int     // of the batch: the sequence's last token
	filled  bool    // the batch holds tokens of this sequence
	placed  time.Time
	through time.Time // when the prompt was
}

// common returns how much of a prompt the slot knows.
func (s *slot) common(prompt []int32) int {
	n := 0
	for n < len(s.known) && n < len(prompt) && s.known[n] == prompt[n] {
		n++
	}
	return n
}

// start begins a job.
func (s *slot) start(j *job) error {
	sampler, err := s.engine.model.NewSampler(j.req.Sampling)
	if err != nil {
		return err
	}
	// The penalties look back into the prompt.
	for _, id := range j.req.Prompt[max(0, len(j.req.Prompt)-j.req.Sampling.RepeatLastN):] {
		sampler.Accept(id)
	}
	// At least one token must be decoded, for its logits.
	keep := min(s.common(j.req.Prompt), len(j.req.Prompt)-1)
	if !s.engine.context.Keep(s.seq, keep) {
		keep = 0
	}
	s.known = s.known[:keep]
	s.job, s.sampler, s.text, s.tokens = j, sampler, text{stop: j.req.Stop}, nil
	s.placed, s.through = time.Now(), time.Time{}
	j.result.CachedTokens = keep
	j.result.Wait = s.placed.Sub(j.queued)
	s.engine.stats.running.Add(1)
	return nil
}

// inPrompt tells whether a part of the prompt is still to be decoded.
func (s *slot) inPrompt() bool { return len(s.known) < len(s.job.req.Prompt) }

// fill puts the sequence's next tokens into the batch: one that was generated,
// or as much of the prompt as fits.
func (s *slot) fill() {
	s.filled = false
	prompt := s.job.req.Prompt
	for s.engine.context.Room() > 0 {
		id, last := s.next, true
		if s.inPrompt() {
			id, last = prompt[len(s.known)], len(s.known) == len(prompt)-1
		}
		s.row = s.engine.context.Pending()
		if err := s.engine.context.Add(id, len(s.known), s.seq, last); err != nil {
			s.finish("", err) // ids are checked and there is room: cannot happen
			return
		}
		s.filled = true
		s.known = append(s.known, id)
		if last {
			return
		}
	}
}

// advance samples the token after the decoded ones.
func (s *slot) advance() {
	s.filled = false
	if s.inPrompt() {
		return
	}
	j, e := s.job, s.engine
	if s.through.IsZero() {
		s.through = time.Now()
	}
	s.next = s.sampler.Sample(e.context, s.row)
	j.result.Tokens++
	e.stats.generated.Add(1)
	if e.model.EndsGeneration(s.next) {
		s.flush(s.text.rest())
		s.finish(FinishStop, nil)
		return
	}
	piece := e.model.Piece(s.next)
	if j.req.Logprobs >= 0 {
		token, err := e.probability(s.next, piece, s.row, j.req.Logprobs)
		if err != nil {
			s.finish("", err)
			return
		}
		s.tokens = append(s.tokens, token)
	}
	shown, stopped := s.text.add(piece)
	full := len(s.known) >= e.length
	ended := full || j.result.Tokens == j.req.MaxTokens
	if ended && !stopped {
		shown += s.text.rest()
	}
	s.flush(shown)
	switch {
	case stopped:
		s.finish(FinishStop, nil)
	case ended:
		j.result.ContextFull = full && j.result.Tokens != j.req.MaxTokens
		s.finish(FinishLength, nil)
	}
}

// flush gives out text, with the tokens it came from.
func (s *slot) flush(shown string) {
	if shown == "" {
		return
	}
	s.job.chunks <- Chunk{shown, s.tokens}
	s.tokens = nil
}

// finish ends the job, if there is one, and frees the slot.
func (s *slot) finish(why Finish, err error) {
	if s.job == nil {
		return
	}
	now := time.Now()
	r := &s.job.result
	if s.through.IsZero() {
		s.through = now
	}
	r.Prompt, r.Generation = s.through.Sub(s.placed), now.Sub(s.through)
	s.sampler.Close()
	s.engine.stats.running.Add(-1)
	s.engine.end(s.job, why, err)
	s.job, s.sampler, s.filled = nil, nil, false
}

// forget drops what the slot knows: after a failed decode nobody knows what of
// it is cached.
func (s *slot) forget() {
	s.engine.context.Keep(s.seq, 0)
	s.known = nil
}

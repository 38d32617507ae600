package llama

import (
	"errors"
	"fmt"
	"math"

	yzma "github.com/hybridgroup/yzma/pkg/llama"
)

// Sampling says how tokens are chosen; the names and the meaning are
// llama.cpp's. A value that switches an option off is given with it.
type Sampling struct {
	Seed             uint32
	Temperature      float64 // 0: always the likeliest token
	TopK             int     // 0: off
	TopP             float64 // 1: off
	MinP             float64 // 0: off
	RepeatLastN      int     // tokens that the penalties look back; 0: off
	RepeatPenalty    float64 // 1: off
	FrequencyPenalty float64 // 0: off
	PresencePenalty  float64 // 0: off
	IgnoreEOS        bool    // never choose a token that ends the text
}

// DefaultSampling returns llama.cpp's defaults.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatLastN: 64, RepeatPenalty: 1}
}

// ErrSampling means that an option of [Sampling] is out of range.
var ErrSampling = errors.New("sampling option out of range")

// Validate refuses values that have no meaning. Errors wrap [ErrSampling].
func (s Sampling) Validate() error {
	for _, o := range []struct {
		name             string
		value, low, high float64
	}{
		{"temperature", s.Temperature, 0, 100},
		{"top_k", float64(s.TopK), 0, math.MaxInt32},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"repeat_last_n", float64(s.RepeatLastN), 0, math.MaxInt32},
		{"repeat_penalty", s.RepeatPenalty, 1e-3, 1e3},
		{"frequency_penalty", s.FrequencyPenalty, -100, 100},
		{"presence_penalty", s.PresencePenalty, -100, 100},
	} {
		if !(o.value >= o.low && o.value <= o.high) {
			return fmt.Errorf("%w: %s is %v, must be %v to %v", ErrSampling, o.name, o.value, o.low, o.high)
		}
	}
	return nil
}

// Sampler chooses tokens with llama.cpp's own sampler chain, in the order of
// its tools: penalties, top-k, top-p, min-p, temperature, chance. It belongs to
// one sequence and is not safe for concurrent use.
type Sampler struct{ chain yzma.Sampler }

// NewSampler makes a sampler. It must be closed before the model is.
func (m *Model) NewSampler(s Sampling) (*Sampler, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	chain := yzma.SamplerChainInit(yzma.SamplerChainDefaultParams())
	add := func(part yzma.Sampler) { yzma.SamplerChainAdd(chain, part) }
	if banned := m.banned(s.IgnoreEOS); len(banned) > 0 {
		add(yzma.SamplerInitLogitBias(int32(m.tokens), int32(len(banned)), &banned[0]))
	}
	if s.RepeatLastN > 0 && (s.RepeatPenalty != 1 || s.FrequencyPenalty != 0 || s.PresencePenalty != 0) {
		add(yzma.SamplerInitPenalties(int32(m.tokens), int32(s.RepeatLastN),
			float32(s.RepeatPenalty), float32(s.FrequencyPenalty), float32(s.PresencePenalty)))
	}
	if s.Temperature == 0 {
		add(yzma.SamplerInitGreedy())
		return &Sampler{chain}, nil
	}
	if s.TopK > 0 {
		add(yzma.SamplerInitTopK(int32(s.TopK)))
	}
	if s.TopP < 1 {
		add(yzma.SamplerInitTopP(float32(s.TopP), 1))
	}
	if s.MinP > 0 {
		add(yzma.SamplerInitMinP(float32(s.MinP), 1))
	}
	add(yzma.SamplerInitTemp(float32(s.Temperature)))
	add(yzma.SamplerInitDist(s.Seed))
	return &Sampler{chain}, nil
}

// banned lists the tokens that must not be chosen: those the model suppresses,
// and with ignoreEOS those that end a text.
func (m *Model) banned(ignoreEOS bool) []yzma.LogitBias {
	ids := m.vocab.Suppressed()
	if ignoreEOS {
		ids = append(ids, m.vocab.Endings()...)
	}
	banned := make([]yzma.LogitBias, len(ids))
	for i, id := range ids {
		banned[i] = yzma.LogitBias{Token: yzma.Token(id), Bias: float32(math.Inf(-1))}
	}
	return banned
}

// Accept tells the sampler of a token that it did not choose, such as one of
// the prompt, for the penalties.
func (s *Sampler) Accept(id int32) { yzma.SamplerAccept(s.chain, yzma.Token(id)) }

// Sample chooses the token after the one that was the i-th of the last batch,
// whose logits must have been wanted.
func (s *Sampler) Sample(c *Context, i int) int32 {
	return int32(yzma.SamplerSample(s.chain, c.handle, int32(i)))
}

// Close frees the sampler.
func (s *Sampler) Close() {
	if s.chain != 0 {
		yzma.SamplerFree(s.chain)
		s.chain = 0
	}
}

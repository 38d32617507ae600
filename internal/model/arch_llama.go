package model

import "besa/internal/decoder"

// readLlama covers LLaMA 1, 2 and 3, Mistral, SmolLM and what else ships as
// architecture "llama": rotary pairs side by side.
func readLlama(h header, m *Model) error {
	m.RopeLayout = decoder.RopeInterleaved
	return h.refuseExperts()
}

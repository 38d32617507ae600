package model

import "besa/internal/decoder"

// readQwen covers Qwen2 and 2.5 (biased q, k and v) and Qwen3 (normalised q
// and k heads): rotary pairs half a head apart.
func readQwen(h header, m *Model) error {
	m.RopeLayout = decoder.RopeHalves
	return h.refuseExperts()
}

package model

import (
	"fmt"
	"slices"
	"strings"

	"besa/gguf"
	"besa/internal/decoder"
)

// architectures maps a GGUF architecture to the function that reads what is
// its own; sizes that all of them share are read before.
var architectures = map[string]func(header, *Model) error{
	"llama": readLlama,
	"qwen2": readQwen,
	"qwen3": readQwen,
}

// Supported lists the architectures.
func Supported() string {
	var names []string
	for n := range architectures {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// header reads an architecture's metadata keys.
type header struct {
	file *gguf.File
	arch string
}

func (h header) key(suffix string) string { return h.arch + "." + suffix }

// size reads a required positive number.
func (h header) size(suffix string, dst *int) error {
	v, ok := h.file.Uint(h.key(suffix))
	if !ok || v == 0 || v > 1<<30 {
		return fmt.Errorf("metadata key %q is missing or is no positive number", h.key(suffix))
	}
	*dst = int(v)
	return nil
}

// optionalSize reads a number where the file has it.
func (h header) optionalSize(suffix string, dst *int) error {
	if _, ok := h.file.Lookup(h.key(suffix)); !ok {
		return nil
	}
	return h.size(suffix, dst)
}

// float reads an optional number.
func (h header) float(suffix string, dst *float64) {
	if v, ok := h.file.Float(h.key(suffix)); ok {
		*dst = v
	}
}

// sizes reads what all supported architectures have in common.
func (h header) sizes(m *Model) error {
	for _, s := range []struct {
		suffix string
		dst    *int
	}{
		{"block_count", &m.Layers}, {"embedding_length", &m.Hidden}, {"feed_forward_length", &m.FFN},
		{"attention.head_count", &m.Heads}, {"context_length", &m.Context},
	} {
		if err := h.size(s.suffix, s.dst); err != nil {
			return err
		}
	}
	m.KVHeads = m.Heads
	if m.Hidden%m.Heads != 0 {
		if _, ok := h.file.Lookup(h.key("attention.key_length")); !ok {
			return fmt.Errorf("%w: hidden size %d is no multiple of %d heads", decoder.ErrConfig, m.Hidden, m.Heads)
		}
	}
	m.HeadDim = m.Hidden / m.Heads
	if err := h.optionalSize("attention.head_count_kv", &m.KVHeads); err != nil {
		return err
	}
	if err := h.optionalSize("attention.key_length", &m.HeadDim); err != nil {
		return err
	}
	value := m.HeadDim
	if err := h.optionalSize("attention.value_length", &value); err != nil {
		return err
	}
	if value != m.HeadDim {
		return fmt.Errorf("%w: keys of %d and values of %d channels", ErrUnsupported, m.HeadDim, value)
	}
	m.RopeDim, m.RopeBase, m.RopeScale, m.Eps = m.HeadDim, 10000, 1, 1e-5
	if err := h.optionalSize("rope.dimension_count", &m.RopeDim); err != nil {
		return err
	}
	h.float("rope.freq_base", &m.RopeBase)
	h.float("attention.layer_norm_rms_epsilon", &m.Eps)
	return h.ropeScaling(m)
}

// ropeScaling reads linear scaling and refuses the other kinds.
func (h header) ropeScaling(m *Model) error {
	kind, ok := h.file.String(h.key("rope.scaling.type"))
	if !ok || kind == "none" {
		return nil
	}
	if kind != "linear" {
		return fmt.Errorf("%w: rope scaling %q; supported: none, linear, LLaMA 3's factors", ErrUnsupported, kind)
	}
	h.float("rope.scaling.factor", &m.RopeScale)
	return nil
}

// refuseExperts refuses mixture-of-experts variants.
func (h header) refuseExperts() error {
	if n, ok := h.file.Uint(h.key("expert_count")); ok && n > 0 {
		return fmt.Errorf("%w: %s with %d experts", ErrUnsupported, h.arch, n)
	}
	return nil
}

package gguf

import (
	"encoding/binary"
	"fmt"
)

// cursor reads little-endian fields off a byte slice. Every read is checked
// against what is left; a failed read leaves the position alone.
type cursor struct {
	data []byte
	pos  int
}

func (c *cursor) left() int { return len(c.data) - c.pos }

// take returns the next n bytes.
func (c *cursor) take(n int) ([]byte, error) {
	if n > c.left() {
		return nil, fmt.Errorf("%w: %d bytes expected at offset %d, %d are left", ErrTruncated, n, c.pos, c.left())
	}
	b := c.data[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b, nil
}

func (c *cursor) u32() (uint32, error) {
	b, err := c.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (c *cursor) u64() (uint64, error) {
	b, err := c.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads a 64-bit count of items of at least itemBytes each, and refuses
// one above limit as malformed, one that the rest of the file cannot hold as
// truncated. limit must be at most maxItems.
func (c *cursor) count(limit, itemBytes uint64) (int, error) {
	start := c.pos
	n, err := c.u64()
	if err != nil {
		return 0, err
	}
	if n > limit {
		c.pos = start
		return 0, fmt.Errorf("%w: count %d at offset %d is above %d", ErrMalformed, n, start, limit)
	}
	// limit·itemBytes is far below 2⁶⁴, and limit fits an int.
	if left := uint64(c.left()); n*itemBytes > left {
		c.pos = start
		return 0, fmt.Errorf("%w: %d items of %d bytes or more are counted at offset %d, %d bytes are left",
			ErrTruncated, n, itemBytes, start, left)
	}
	return int(n), nil
}

// text reads a string: a 64-bit length of at most limit, then the bytes.
func (c *cursor) text(limit uint64) ([]byte, error) {
	n, err := c.count(limit, 1)
	if err != nil {
		return nil, err
	}
	return c.take(n)
}

// value moves over a value of type t and checks it.
func (c *cursor) value(t ValueType) error {
	switch t {
	case String:
		_, err := c.text(maxItems)
		return err
	case Array:
		return c.array()
	}
	size := t.size()
	if size == 0 {
		return fmt.Errorf("%w: value type %d does not exist", ErrMalformed, uint32(t))
	}
	b, err := c.take(size)
	if err != nil {
		return err
	}
	return checkBools(t, b)
}

// array moves over an array: element type, count, elements. Arrays of arrays
// are refused, as llama.cpp does; no model uses them.
func (c *cursor) array() error {
	typ, err := c.u32()
	if err != nil {
		return err
	}
	switch t := ValueType(typ); {
	case t == Array:
		return fmt.Errorf("%w: nested array", ErrMalformed)
	case t == String:
		n, err := c.count(maxItems, 8)
		if err != nil {
			return err
		}
		for i := range n {
			if _, err := c.text(maxItems); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
		}
		return nil
	case t.size() == 0:
		return fmt.Errorf("%w: element type %d does not exist", ErrMalformed, typ)
	default:
		n, err := c.count(maxItems, uint64(t.size()))
		if err != nil {
			return err
		}
		b, err := c.take(n * t.size())
		if err != nil {
			return err
		}
		return checkBools(t, b)
	}
}

// checkBools: a bool is a byte of 0 or 1, says the specification.
func checkBools(t ValueType, b []byte) error {
	if t != Bool {
		return nil
	}
	for _, v := range b {
		if v > 1 {
			return fmt.Errorf("%w: bool of value %d", ErrMalformed, v)
		}
	}
	return nil
}

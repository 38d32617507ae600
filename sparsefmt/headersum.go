package sparsefmt

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"slices"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// The header checksum covers the file from its first byte to the start of the
// tensor data, with the eight bytes of the checksum itself taken as zero.
// They are the last of the metadata, just before the tensor descriptions.
//
// Of a model in parts it covers the header of the file that they make when
// joined; each part's own header follows from that, and must be exactly so.

// ggufFixed is the size of magic, version, and the numbers of tensors and pairs.
const ggufFixed = 4 + 4 + 8 + 8

// ggufV3 is the only version of GGUF that a sparse file may have.
const ggufV3 = 3

// newHeaderSum computes the checksum of a header that is to be written: the
// last pair is the checksum, its value zero, and offsets are set.
func newHeaderSum(kvs []gguf.KV, tensors []gguf.Tensor, align uint64) uint64 {
	b := gguf.AppendHeader(nil, kvs, tensors)
	b = append(b, make([]byte, padding(uint64(len(b)), align))...)
	return xxh3.Hash(b)
}

// joinedHeaderSum computes the checksum of a header whose last pair is the
// checksum, taken as zero.
func joinedHeaderSum(g *gguf.File) uint64 {
	kvs := slices.Clone(g.KVs())
	kvs[len(kvs)-1] = gguf.MustKV(keyHeaderSum, uint64(0))
	return newHeaderSum(kvs, g.Tensors(), g.Alignment())
}

// checkParts checks that the headers of the parts are those that Create writes.
func checkParts(g *gguf.File) error {
	parts := g.Parts()
	if len(parts) == 1 {
		return nil // parts that another program has joined: its split keys mean nothing
	}
	for i, part := range parts {
		want := g.PartHeader(i)
		got, err := readStart(part.Path(), len(want))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return broken(RuleHeaderSum, "the header of part %d is not that of part %d of this model", i+1, i+1)
		}
	}
	return nil
}

// readStart reads the first n bytes of a file, or all there are.
func readStart(path string, n int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, int64(n)))
}

// fileHeaderSum computes the checksum of an open file's header from its bytes.
func fileHeaderSum(g *gguf.File) (uint64, error) {
	if g.Parts()[0] != g {
		var sum uint64
		err := gguf.GuardFault(func() error {
			sum = joinedHeaderSum(g)
			return checkParts(g)
		})
		return sum, err
	}
	file, err := os.Open(g.Path())
	if err != nil {
		return 0, err
	}
	defer file.Close()
	at := int64(ggufFixed)
	for _, kv := range g.KVs() {
		at += int64(8+len(kv.Key)+4) + int64(len(kv.Raw))
	}
	end := min(int64(g.DataOffset()), g.Size())
	h := xxh3.New()
	if _, err := io.Copy(h, io.NewSectionReader(file, 0, at-8)); err != nil {
		return 0, err
	}
	if _, err := h.Write(make([]byte, 8)); err != nil {
		return 0, err
	}
	if _, err := io.Copy(h, io.NewSectionReader(file, at, end-at)); err != nil {
		return 0, err
	}
	return h.Sum64(), nil
}

// checkHeaderSum applies rule R8 to a file whose keys are in order.
func checkHeaderSum(g *gguf.File) error {
	kvs := g.KVs()
	last := kvs[len(kvs)-1]
	if last.Key != keyHeaderSum || last.Type != gguf.Uint64 {
		return broken(RuleHeaderSum, "the last key is %.80q of type %v, not %s of uint64", last.Key, last.Type, keyHeaderSum)
	}
	sum, err := fileHeaderSum(g)
	if err != nil {
		return err
	}
	if want := binary.LittleEndian.Uint64(last.Raw); sum != want {
		return mismatch(RuleHeaderSum, sum, want)
	}
	return nil
}

// padding is the number of bytes from n to the next multiple of align.
func padding(n, align uint64) uint64 { return -n & (align - 1) }
